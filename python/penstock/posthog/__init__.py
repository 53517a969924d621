"""What SDKs call besides capture: remote config, flags, surveys, scripts.

`paths.SdkAnswers.find` leads from a URL to a `calls.Call`, which gives the answer. Nothing here
knows of sockets, and nothing stores an event.
"""
