"""Each recipe of the cookbook as a user runs it: checked, started with a real Triton, and asked."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.examples.test_cookbook import shown
from tests.http_server import Answering, serving
from tests.integration.stack import ROOT, Stack, running, wait_for

pytestmark = pytest.mark.triton

EXAMPLES = ROOT / "examples"
RECIPES = sorted(path.parent.name for path in EXAMPLES.glob("*/listener.yaml"))


def predictions(stack: Stack, *instances: Any) -> list[Any]:
    answer = stack.predict(list(instances))
    assert answer.status_code == 200, f"{answer.text}\n{stack.output()}"
    return list(answer.json()["predictions"])


def refusal(stack: Stack, *instances: Any) -> str:
    answer = stack.predict(list(instances))
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"])


def picture(size: tuple[int, int], *patches: tuple[str, tuple[int, int, int, int]], kind: str = "JPEG") -> Any:
    """A dark picture with patches of colour, as an instance."""
    made, file = Image.new("RGB", size), io.BytesIO()
    for colour, box in patches:
        made.paste(colour, box)
    made.save(file, kind)
    return {"b64": base64.b64encode(file.getvalue()).decode()}


def image_classifier(stack: Stack) -> None:
    mostly = {colour: picture((90, 60), (colour, (0, 0, 90, 40))) for colour in ("red", "blue", "yellow", "white")}
    found = predictions(stack, *mostly.values(), picture((8, 8), kind="PNG"))
    assert [each["colour"] for each in found] == [*mostly, "black"]
    assert [each["share"] for each in found[:-1]] == pytest.approx([2 / 3] * 4, abs=0.1)
    assert found[-1]["share"] > 0.99
    assert refusal(stack, mostly["red"], [1, 2]) == "instances[1]: an instance is a JPEG or PNG picture"


def text_tokenizer(stack: Stack) -> None:
    texts = ["A GREAT, lovely day!", "I hate this awful, broken thing", "the train to the sea", "nice, but boring"]
    friendly, unfriendly, neither, both = (each["friendly"] for each in predictions(stack, *texts))
    assert friendly > 0.95
    assert unfriendly < 0.01
    assert (neither, both) == (0.5, 0.5)
    assert predictions(stack, " ".join(["good"] * 100))[0]["friendly"] > 0.99
    assert refusal(stack, 5) == "instances[0]: an instance is a text"


def detector_then_classifier(stack: Stack) -> None:
    two = picture((320, 160), ("red", (0, 0, 80, 40)), ("blue", (240, 80, 320, 120)))
    found = predictions(stack, two, picture((64, 64)), picture((64, 64), ("lime", (8, 16, 24, 32))))
    lamps = [{each["colour"]: each["box"] for each in lamps} for lamps in found]
    assert lamps == [
        {"red": [0, 0, 0.25, 0.25], "blue": [0.75, 0.5, 1, 0.75]},
        {},
        {"green": [0.125, 0.25, 0.375, 0.5]},
    ]
    # The second model is a part, not a choice.
    assert stack.predict([[0]], parameters={"model": "classifier"}).status_code == 400


def ab_split(stack: Stack) -> None:
    home = {"rooms": 3, "square_metres": 100, "age": 12}
    homes = [{**home, "user": f"u{number}"} for number in range(400)]
    today, improved = 300_000, 15_000 + 290_000 - 6_000
    found = [each["price"] for each in predictions(stack, *homes)]
    assert set(found) == {today, improved}
    assert found.count(improved) / len(found) == pytest.approx(0.2, abs=0.07)
    assert [each["price"] for each in predictions(stack, *homes[::-1])] == found[::-1]
    for user in (0, 1, 2, found.index(improved)):
        assert predictions(stack, homes[user]) == [{"price": found[user]}]
    assert "instances[0]: an instance has the numbers" in refusal(stack, {"user": "u1"})


def shadow(stack: Stack) -> None:
    assert predictions(stack, [3, 100, 12]) == predictions(stack, [3, 100, 12]) == [[300_000]]
    told = "the mirror of 'quote' differs in 1 of 1: predictions[0]: [300000.0] and [299000.0]"
    wait_for(lambda: stack.output().count(told) == 2, 20, stack.output)
    assert predictions(stack, [0, 0, 0]) == [[0]]


def fallback(stack: Stack) -> None:
    easy, endless = [1000, 0.01, 100], [1000, 0.01, 10]
    # The first call of a model may take longer than its time.
    wait_for(lambda: predictions(stack, easy) == [[11]], 20, stack.output)
    assert predictions(stack, endless) == [[100]]
    assert "'months' falls back from node 0" in stack.output()
    # The large model is at it for a while, and then back.
    wait_for(lambda: predictions(stack, easy) == [[11]], 60, stack.output)


def ensemble(stack: Stack) -> None:
    by_area, by_rooms, by_all = 300_000, 270_000, 299_000
    (found,) = predictions(stack, [3, 100, 12])
    assert found == pytest.approx([(by_area + by_rooms + by_all) / 3])
    assert predictions(stack, [0, 0, 0], [0, 1, 0]) == [[0], pytest.approx([5900 / 3])]


def tabular_lookup(stack: Stack) -> None:
    loyal, leaving, other = (each["leaves"] for each in predictions(stack, "c-17", "c-42", "c-99"))
    assert loyal < 0.1 < other < 0.5
    assert leaving == pytest.approx(0.98, abs=0.01)
    assert refusal(stack, "c-17", "c-1") == "instances[1]: an instance is the id of a customer"
    assert refusal(stack, ["c-17"]) == "instances[0]: an instance is the id of a customer"


def external_service(stack: Stack) -> None:
    loyal, leaving = (each["leaves"] for each in predictions(stack, "c-17", "c-42"))
    assert loyal < 0.1
    assert leaving == pytest.approx(0.98, abs=0.01)
    assert refusal(stack, "c-17", "c/1") == "instances[1]: an instance is the id of a customer"
    answer = stack.predict(["broken"])
    assert (answer.status_code, answer.json()) == (503, {"error": "the customers' service does not answer"})


ANSWERS: dict[str, Callable[[Stack], None]] = {
    check.__name__: check
    for check in (
        image_classifier,
        text_tokenizer,
        detector_then_classifier,
        ab_split,
        shadow,
        fallback,
        ensemble,
        tabular_lookup,
        external_service,
    )
}


class Customers(Answering):
    """The service that the recipe external_service asks."""

    features = {"c-17": [24, 0, 3], "c-42": [2, 5, 0]}

    def do_GET(self) -> None:
        folder, _, customer = self.path.rpartition("/")
        known = self.features.get(customer) if folder == "/customers" else None
        body = json.dumps({"features": known}).encode()
        self.answer(500 if customer == "broken" else 404 if known is None else 200, body)


@pytest.fixture
def customers() -> Iterator[str]:
    """URL of the customers' service."""
    with serving(Customers) as url:
        yield url


def check_the_cookbooks_line(recipe: str, stack: Stack) -> None:
    """What the cookbook asks with curl is answered as it says, in the first four digits."""
    (line,), (answer,) = shown(recipe, "sh"), shown(recipe, "json")
    script = line.replace("localhost:8080", stack.url)
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, check=True, text=True)
    assert rounded(json.loads(done.stdout)) == rounded(json.loads(answer)), done.stdout


def rounded(value: Any) -> Any:
    """The same with four significant digits."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case list():
            return [rounded(each) for each in value]
        case dict():
            return {key: rounded(each) for key, each in value.items()}
    return value


def test_every_recipe_is_asked() -> None:
    assert sorted(ANSWERS) == RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_check_finds_no_mistake(recipe: str) -> None:
    command = [sys.executable, "-m", "listener", "check", f"--service={EXAMPLES / recipe}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "everything is in order\n"), done.stderr


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_answers_as_it_says(recipe: str, tmp_path: Path, customers: str) -> None:
    with running(tmp_path / "log", service=EXAMPLES / recipe, CUSTOMERS_URL=customers) as stack:
        stack.until(200)
        ANSWERS[recipe](stack)
        check_the_cookbooks_line(recipe, stack)
        assert stack.stop() == 0, stack.output()
    assert "Traceback" not in stack.output()
