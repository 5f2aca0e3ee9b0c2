"""A client of Triton, run in the environment of the server: two verbs, one folder.

ask HTTP GRPC MODEL FOLDER: inputs.npy goes to the server over both protocols, as one batch and
one by one; the answers come back as http_batch.npy and so on, the configuration as config.json.
follow HTTP GRPC MODEL FOLDER: asks until the configuration holds the word in until.txt; every
answer comes back in followed.npy. A request that fails ends it with an error.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http

LIMIT_S = 120


def infer(module, client, model, images):
    data = module.InferInput("data", images.shape, "FP32")
    data.set_data_from_numpy(images)
    return client.infer(model, [data]).as_numpy("embedding")


def ask(http, grpc, model, folder):
    images = np.load(folder / "inputs.npy")
    for name, module, address in (
        ("http", tritonclient.http, http),
        ("grpc", tritonclient.grpc, grpc),
    ):
        client = module.InferenceServerClient(address)
        np.save(folder / f"{name}_batch.npy", infer(module, client, model, images))
        singly = [infer(module, client, model, image[None]) for image in images]
        np.save(folder / f"{name}_singly.npy", np.concatenate(singly))
    config = tritonclient.http.InferenceServerClient(http).get_model_config(model)
    (folder / "config.json").write_text(json.dumps(config))


def follow(http, grpc, model, folder):
    images, until = np.load(folder / "inputs.npy"), (folder / "until.txt").read_text()
    client = tritonclient.http.InferenceServerClient(http)
    answers, deadline = [], time.monotonic() + LIMIT_S
    (folder / "following").touch()
    while until not in json.dumps(client.get_model_config(model)):
        if time.monotonic() > deadline:
            sys.exit(f"the server has not read {until} within {LIMIT_S} s")
        answers.append(infer(tritonclient.http, client, model, images))
    answers.append(infer(tritonclient.http, client, model, images))
    np.save(folder / "followed.npy", np.stack(answers))


if __name__ == "__main__":
    {"ask": ask, "follow": follow}[sys.argv[1]](*sys.argv[2:5], Path(sys.argv[5]))
