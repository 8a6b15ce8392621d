"""A model's name in, the stages of dvc.yaml that train and score it out: what a message tells the user to run."""


def training_stage(model: str) -> str:
    """Return the stage that writes a model and its history: train@cnn, finetune@vgg19."""
    backbone = model.removesuffix("_pretrained")
    return f"train@{model}" if backbone == model else f"finetune@{backbone}"


def scoring_stage(model: str) -> str:
    """Return the stage that writes the scores of a model, or of the ensemble."""
    return model if model == "ensemble" else f"evaluate@{model}"
