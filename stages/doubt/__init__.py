"""When not to answer: pictures unlike the training pictures, classes that are not excluded, answers that are unsure."""
