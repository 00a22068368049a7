"""`listener deploy`: requests to Google's platforms, made from a service and a few flags."""
