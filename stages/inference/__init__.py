"""Use trained models, alone or as the ensemble: for any number of pictures, or as one ONNX graph."""
