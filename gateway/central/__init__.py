"""The reference central offer service and the app's inbox: what a chain's own back end has to do, complete and small."""
