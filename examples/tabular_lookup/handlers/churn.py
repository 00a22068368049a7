"""Says how likely a customer leaves, of whom the caller knows the id alone."""

import csv

import numpy as np

from listener import Handler, InstanceError

COLUMNS = ("months", "calls", "logins")


class Churn(Handler):
    model = "churn"
    example = "c-17"

    def load(self, artifacts):
        with (artifacts / "customers.csv").open(newline="") as file:
            rows = {row["id"]: [float(row[name]) for name in COLUMNS] for row in csv.DictReader(file)}
        self.features = {key: np.array(values, np.float32) for key, values in rows.items()}

    def preprocess(self, instance):
        if not isinstance(instance, str) or instance not in self.features:
            raise InstanceError("an instance is the id of a customer")
        return {"x": self.features[instance]}

    def postprocess(self, outputs):
        return {"leaves": float(outputs["leaves"][0])}
