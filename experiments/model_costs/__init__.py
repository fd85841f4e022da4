"""What each model costs: parameters, compile time and memory of the train step."""
