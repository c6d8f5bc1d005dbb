"""The web server: its API, limits, and what it rejects. With the extra ``serve``."""

import asyncio
import contextlib
import http.client
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from command_line import numbacnn, rejected
from PIL import Image

import numbacnn as nc
from numbacnn.serve import Dashboard, Server, app, connections, make_app, predictions, requests, server
from numbacnn.serve.bundled import load_bundled

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body)


def ask(url, path="", body=None, method=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), f"/{path}", body, named)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def png(image, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def model():
    return load_bundled("mnist")


@pytest.fixture(scope="module")
def test_set():
    return nc.data.load("digits")[1]


@pytest.fixture(scope="module")
def url(model, test_set):
    with Server(make_app(model, "digits", test_set), "127.0.0.1", 0) as server:
        yield server.url


# -- API --------------------------------------------------------------------------------------------------------------


def test_predict_gives_the_models_probabilities(url, model, test_set):
    image = test_set.images[5]
    found = ask(url, "predict", png(image))
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    expected = model.predict(image[None])[0]
    assert found.json["class"] == model.class_names[expected.argmax()]
    assert found.json["probabilities"] == dict(zip(model.class_names, expected.tolist(), strict=True))


def test_dark_strokes_are_inverted_unless_they_are_to_be_kept(url, test_set):
    image = test_set.images[5]
    light, dark = ask(url, "predict", png(image)).json, ask(url, "predict", png(255 - image)).json
    assert dark == light
    assert ask(url, "predict?polarity=keep", png(255 - image)).json != light
    assert ask(url, "predict?polarity=invert", png(255 - image)).json == light
    assert ask(url, "predict?polarity=up", png(image)).status == 400


def test_model_and_health(url, model):
    assert ask(url, "health").json == {"status": "ok"}
    found = ask(url, "model").json
    assert (found["task"], found["classes"], found["input_shape"]) == ("classify", list("0123456789"), [28, 28, 1])
    assert [layer["name"] for layer in found["layers"]] == [node.name for node in model.graph.nodes]
    assert found["test_images"] == 360


def test_boxes_and_masks_have_the_size_of_the_file(rng):
    image = rng.integers(0, 256, (40, 60, 3), np.uint8)
    detector = nc.models.grid_detector(input_shape=(64, 64, 3), classes=2, seed=4)
    detector.task, detector.classes = "detect", ("cat", "dog")
    with Server(make_app(detector, "boxes"), "127.0.0.1", 0) as server:
        boxes = ask(server.url, "predict", png(image, "JPEG")).json["boxes"]
    for found in boxes:
        assert found["class"] in ("cat", "dog")
        assert 0 <= found["box"][0] <= found["box"][2] <= 60
        assert 0 <= found["box"][1] <= found["box"][3] <= 40
    segmenter = nc.models.unet_small(input_shape=(32, 32, 3), classes=3)
    segmenter.task = "segment"
    with Server(make_app(segmenter, "masks"), "127.0.0.1", 0) as server:
        found = ask(server.url, "predict", png(image)).json
    import base64

    mask = np.array(Image.open(io.BytesIO(base64.b64decode(found["mask"]))))
    assert mask.shape == (40, 60)
    assert found["shares"] == {str(i): float(np.mean(mask == i)) for i in np.unique(mask)}


def test_requests_at_the_same_time_are_all_answered(url, test_set, model):
    images = test_set.images[:200]
    expected = [model.class_names[i] for i in model.predict(images).argmax(axis=1)]
    with ThreadPoolExecutor(32) as threads:
        found = list(threads.map(lambda image: ask(url, "predict", png(image)), images))
    assert {answer.status for answer in found} == {200}
    assert [answer.json["class"] for answer in found] == expected


# -- limits and rejections --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 415, "not an image of a known format"),
        (b"GIF89a", 415, "the image: not"),
        (b"x" * 100, 415, "not an image of a known format"),
        (b"x" * (requests.MAX_BODY + 1), 413, "more than 8 MiB"),
    ],
)
def test_what_is_no_image_is_rejected(url, content, status, message):
    found = ask(url, "predict", content)
    assert found.status == status
    assert message in found.json["error"]


def test_a_decompression_bomb_is_rejected(url):
    file = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(file, "PNG")
    found = ask(url, "predict", file.getvalue())
    assert found.status == 415
    assert "too large to decode safely" in found.json["error"]


def test_a_body_without_a_length_is_limited_too(url):
    def parts():
        for _ in range(10):
            yield bytes(1 << 20)

    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", "/predict", parts(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 413
    connection.close()


def test_a_body_that_does_not_arrive_ends_in_time(url, monkeypatch):
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.3)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"few")
    start = time.monotonic()
    assert connection.getresponse().status == 408
    assert time.monotonic() - start < 5
    connection.close()


def test_uploads_beyond_those_that_memory_is_meant_for_are_answered_503(model, test_set, monkeypatch):
    monkeypatch.setattr(predictions, "MAX_BODIES", 1)
    monkeypatch.setattr(predictions, "TURN_SECONDS", 0.2)
    monkeypatch.setattr(predictions, "SMALL_BODY", 1)
    file = png(test_set.images[0])
    with Server(make_app(model, "digits"), "127.0.0.1", 0) as server:
        slow = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        slow.putrequest("POST", "/predict")
        slow.putheader("Content-Length", str(len(file)))
        slow.endheaders(file[:10])
        time.sleep(0.2)
        assert ask(server.url, "predict", file).status == 503
        slow.send(file[10:])
        assert slow.getresponse().status == 200
        assert ask(server.url, "predict", file).status == 200
        slow.close()


def test_a_busy_workbench_delays_no_prediction_and_few_requests_wait_for_it(model, test_set, monkeypatch):
    ready = threading.Event()
    monkeypatch.setattr(requests, "ANSWER_SECONDS", 5.0)
    monkeypatch.setattr(app.Workbench, "measure", lambda *_: {"ready": ready.wait(10)})
    with (
        Server(make_app(model, "digits", test_set), "127.0.0.1", 0) as server,
        ThreadPoolExecutor(app.MAX_LOOKS + 1) as threads,
    ):
        asked = [threads.submit(ask, server.url, "measure", b"") for _ in range(app.MAX_LOOKS + 1)]
        rejected_one = next(as_completed(asked)).result()
        found = ask(server.url, "predict", png(test_set.images[0])).status
        ready.set()
    assert rejected_one.status == 503
    assert "wait already; try again" in rejected_one.json["error"]
    assert found == 200
    assert sorted(each.result().status for each in asked) == [*[200] * app.MAX_LOOKS, 503]


def test_the_time_of_a_body_begins_before_its_first_part(monkeypatch):
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.5)
    parts = iter([(b"first", True), (b"last", False)])

    async def receive():
        await asyncio.sleep(0.3)
        body, more = next(parts)
        return {"type": "http.request", "body": body, "more_body": more}

    with pytest.raises(requests.RequestError, match=r"did not arrive within 0\.5 s") as caught:
        asyncio.run(requests.read_body(receive))
    assert caught.value.status == 408


@pytest.fixture(params=["httptools", "h11"])
def _each_parser(request, monkeypatch):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    if request.param == "h11":
        monkeypatch.setattr(server, "protocol", connections._h11_protocol)


@pytest.mark.usefixtures("_each_parser")
@pytest.mark.parametrize(
    ("asked", "status", "after"),
    [
        (b"GET /health HTTP/1.1\r\n", 200, b"\r\n"),
        (b"GET /health HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n", 200, b"x"),
        (b"GET /health HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n", 200, b"\r\n"),
        (b"POST /nothing HTTP/1.1\r\nContent-Length: 4\r\n", 404, b"body"),
        (b"POST /nothing HTTP/1.1\r\nContent-Length: 4\r\n", 404, b"b"),
    ],
)
def test_bytes_after_an_answer_that_are_no_request_close_the_connection(model, monkeypatch, asked, status, after):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with Server(make_app(model, "digits"), "127.0.0.1", 0) as running:
        address = (urlsplit(running.url).hostname, urlsplit(running.url).port)
        with socket.create_connection(address, 10) as connection:
            connection.sendall(asked + b"Host: localhost\r\n\r\n")
            assert whole_answer(connection).startswith(b"HTTP/1.1 %d " % status)
            connection.sendall(after)
            connection.settimeout(4)  # less than the 5 s after which uvicorn closes a connection without a request
            assert closed(connection)


def whole_answer(connection):
    """Receive an answer in JSON, whose object ends with a brace."""
    found = b""
    while not found.endswith(b"}"):
        found += connection.recv(1000)
    return found


@pytest.mark.usefixtures("_each_parser")
def test_a_head_that_does_not_arrive_or_never_ends_closes_the_connection(model, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with Server(make_app(model, "digits"), "127.0.0.1", 0) as running:
        address = (urlsplit(running.url).hostname, urlsplit(running.url).port)
        with socket.create_connection(address, 10) as silent, socket.create_connection(address, 10) as slow:
            slow.sendall(b"GET /health HTTP/1.1\r\n")
            start = time.monotonic()
            for _ in range(20):  # a byte now and then does not help
                with contextlib.suppress(OSError):
                    slow.sendall(b"x")
                time.sleep(0.05)
            assert [closed(each) for each in (silent, slow)] == [True, True]
            assert time.monotonic() - start < 5
        monkeypatch.setattr(connections, "HEAD_SECONDS", 60.0)
        with socket.create_connection(address, 10) as endless:
            with contextlib.suppress(OSError):
                endless.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
                for _ in range(64):
                    endless.sendall(bytes(8192).replace(b"\0", b"x"))
            assert closed(endless)
        assert ask(running.url, "health").status == 200


@pytest.mark.usefixtures("_each_parser")
def test_a_client_that_asks_much_and_receives_nothing_is_closed(model, monkeypatch):
    monkeypatch.setattr(connections, "SEND_SECONDS", 0.5)
    with Server(make_app(model, "digits"), "127.0.0.1", 0) as running:
        address = (urlsplit(running.url).hostname, urlsplit(running.url).port)
        with socket.create_connection(address, 10) as greedy:
            greedy.settimeout(10)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):  # the server ends it
                greedy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300_000)
        assert ask(running.url, "health").status == 200


def closed(connection):
    """Whether the server has closed a connection without an answer other than an error."""
    try:
        answer = connection.recv(1000)
    except TimeoutError:
        return False
    except OSError:
        return True
    return not answer or answer.startswith(b"HTTP/1.1 400")


def test_a_connection_answers_many_requests(url, test_set):
    file, connection = png(test_set.images[5]), http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    answers = set()
    for _ in range(20):
        connection.request("POST", "/predict", file)
        answers.add(connection.getresponse().read())
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
    connection.close()
    assert len(answers) == 1


PATHS = [
    "../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "page/page.js",
    "static/../app.py",
    "/etc/passwd",
    "model/..",
    "%00",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_file_of_the_server_is_reached(url, path):
    found = ask(url, path)
    assert found.status == 404
    assert b"root:" not in found.body
    assert b"import" not in found.body


def test_every_answer_has_the_security_headers_and_none_allows_other_sites(url):
    answers = [ask(url), ask(url, "health"), ask(url, "nothing"), ask(url, "predict", b"x"), ask(url, "predict")]
    assert [answer.status for answer in answers] == [200, 200, 404, 415, 405]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert "server" not in answer.headers
    policy = answers[0].headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_requests_that_other_sites_send_are_rejected(url, headers, test_set):
    assert ask(url, "predict", png(test_set.images[0]), **headers).status == 403
    assert ask(url, "predict", png(test_set.images[0]), method="OPTIONS", **headers).status == 403


def test_the_own_page_and_plain_clients_are_answered(url, test_set):
    origin = url.rstrip("/")
    assert ask(url, "predict", png(test_set.images[0]), Origin=origin, Sec_Fetch_Site="same-origin").status == 200
    for name in ("localhost:1", "LOCALHOST", "127.0.0.2:80", "[::1]:80"):
        assert ask(url, "health", Host=name).status == 200


def test_mutated_requests_are_answered_with_a_status(url, test_set):
    """300 requests with random addresses, parameters and bodies: each gets an answer, none an error of the server."""
    random = np.random.default_rng(0)
    good = png(test_set.images[0]), png(test_set.images[1], "JPEG"), test_set.images[2].tobytes(), b"{}"
    values = [
        "0",
        "-1",
        "999999999999",
        "x",
        "[]",
        "{",
        '{"noise":1e999}',
        '{"off":[[1,2]]}',
        "[" * 5000,
        "é",
        "\0",
        "pool1",
    ]
    names = ["class", "layer", "row", "column", "channel", "changes", "occlusion", "index", "polarity"]
    statuses = []
    for _ in range(300):
        path = str(random.choice(["predict", "look", "explain", "measure", "example", "model", "health", "", "x"]))
        pairs = [f"{random.choice(names)}={quote(str(random.choice(values)))}" for _ in range(random.integers(0, 5))]
        body = bytearray(good[random.integers(len(good))])
        for position in random.integers(0, len(body), random.integers(0, 8)):
            body[position] = random.integers(256)
        body = bytes(body[: random.integers(1, len(body) + 1)]) if random.random() < 0.3 else bytes(body)
        method = str(random.choice(["GET", "POST", "PUT", "HEAD"], p=[0.2, 0.7, 0.05, 0.05]))
        statuses.append(ask(url, f"{path}?{'&'.join(pairs)}", body, method).status)
    assert set(statuses) <= {200, 400, 404, 405, 413, 415}, sorted(set(statuses))
    assert statuses.count(200) > 20
    assert ask(url, "health").json == {"status": "ok"}


# -- command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_in_folder")
def test_serve_names_what_is_wrong():
    rejected("did you mean", "serve", "lenet")
    rejected("no such file", "serve", "nothing.safetensors")
    nc.Sequential([nc.Dense(2)], (3,)).save("features.safetensors")
    outcome = numbacnn("serve", "features.safetensors")
    assert outcome.code == 1
    assert "takes images, gray or RGB" in outcome.err


@pytest.mark.parametrize("data", ["gone", "cifar10"])
@pytest.mark.usefixtures("_in_folder")
def test_a_run_whose_data_is_not_on_this_machine_is_served_without_test_images(data, monkeypatch):
    from numbacnn.data import remote
    from numbacnn.serve import server

    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.cwd()))
    monkeypatch.setattr(remote, "_fetch_file", lambda *_: pytest.fail("a download"))
    Path("run").mkdir()
    nc.models.lenet5().save("run/model.safetensors")
    Path("run/config.toml").write_text(f'data = "{data}"\n')
    monkeypatch.setattr(server, "run_server", lambda _, listening: listening.close())
    outcome = numbacnn("serve", "run", "--port", 0)
    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith(f"note: no test images: {data}")
    assert "serving run on http://127.0.0.1:" in outcome.err


@pytest.mark.usefixtures("_in_folder")
def test_a_taken_port_is_named(url):
    port = urlsplit(url).port
    outcome = numbacnn("serve", "--port", port)
    assert outcome.code == 1
    assert f"127.0.0.1, port {port}: Address already in use; choose another port" in outcome.err


def test_a_public_address_is_warned_of(capsys):
    from numbacnn.cli.serve import warn_of_others

    from numbacnn.serve.security import is_loopback

    assert [is_loopback(host) for host in ("127.0.0.1", "127.0.0.2", "LOCALHOST", "[::1]", "::1")] == [True] * 5
    assert [is_loopback(host) for host in ("0.0.0.0", "192.168.1.5", "::", "localhost.evil.example", "")] == [False] * 5
    warn_of_others("127.0.0.1")
    assert capsys.readouterr().err == ""
    warn_of_others("0.0.0.0")
    assert "whoever reaches it can use the model" in capsys.readouterr().err


@pytest.mark.usefixtures("_in_folder")
def test_export_writes_a_page_and_rejects_options_of_onnx():
    outcome = numbacnn("export", "lenet5", "page.html")
    assert outcome.code == 0
    assert outcome.out.startswith("page.html: a page of ")
    assert Path("page.html").stat().st_size < 400_000
    rejected("--opset is for ONNX files", "export", "lenet5", "other.html", "--opset", 17, code=2)


# -- dashboard --------------------------------------------------------------------------------------------------------


def received_events(url, seconds):
    """The server-sent events of a training until it ends, as they are received."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=seconds)
    connection.request("GET", "/events")
    response = connection.getresponse()
    while line := response.readline():
        if line.startswith(b"data: "):
            yield json.loads(line[6:])
    connection.close()


def test_a_dashboard_gets_every_epoch_and_the_end(monkeypatch):
    from numbacnn.serve import dashboard as module

    monkeypatch.setattr(module, "SECONDS", 0.0)
    monkeypatch.setattr(module, "SHARE", 1.0)
    train, test = (part.subset(np.arange(128)) for part in nc.data.load("digits"))
    model, events = nc.models.lenet5(), []
    with Dashboard(model, test, name="digits") as page:
        assert b"Mistakes of the last validation" in ask(page.url).body
        reader = threading.Thread(target=lambda: events.extend(received_events(page.url, 60)))
        reader.start()
        history = model.fit(train, validation=test, epochs=3, batch_size=32, callbacks=[page], progress=False)
    reader.join(30)
    points = [point for event in events for point in event["points"]]
    assert [point["step"] for point in points] == list(range(1, 13))
    epochs = [epoch for event in events for epoch in event["epochs"]]
    assert [epoch["loss"] for epoch in epochs] == [record.loss for record in history.epochs]
    assert events[-1]["ended"]
    of_first = [point["loss"] for point in points if point["epoch"] == 1]
    assert np.mean(of_first) == pytest.approx(history.epochs[0].loss, rel=1e-5)
    wrong = (model.predict(test.images).argmax(axis=1) != test.labels).sum()
    assert len(events[-1]["mistakes"]["list"]) == min(wrong, 24)


def test_a_dashboard_names_the_classes_that_a_training_brings(rng):
    """A page that was opened before learns of them."""
    images, labels = rng.integers(0, 256, (12, 8, 8, 1), np.uint8), np.array(["cat", "dog", "eel"] * 4)
    model = nc.Sequential([nc.Flatten(), nc.Dense(3)], (8, 8, 1))
    with Dashboard(model) as page:
        events = received_events(page.url, 60)
        assert next(events)["classes"] == ["0", "1", "2"]
        model.fit(images, labels, epochs=1, callbacks=[page], progress=False)
    assert [event["classes"] for event in events if "classes" in event] == [["cat", "dog", "eel"]]


@pytest.mark.parametrize(
    ("images", "message"),
    [(np.zeros((4, 6, 6, 1), np.uint8), r"6, 6, 1"), (np.zeros((4, 8, 8, 3), np.uint8), r"8, 8, 3")],
)
def test_a_dashboard_rejects_validation_images_of_another_shape_at_once(images, message):
    model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (8, 8, 1))
    with pytest.raises(nc.ArgumentError, match=message):
        Dashboard(model, nc.data.Dataset.from_arrays(images, np.arange(4) % 2))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_a_dashboard_on_this_machine_rejects_foreign_host_names(host):
    page = Dashboard(nc.models.lenet5(), host=host)
    with page._server as server:
        assert ask(server.url).status == 200
        assert ask(server.url, Host="evil.example").status == 403


def test_long_trainings_are_thinned_out(monkeypatch):
    from numbacnn.serve import dashboard as module

    monkeypatch.setattr(module, "MAX_POINTS", 10)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    monkeypatch.setattr(module, "SHARE", 1.0)
    train, _ = nc.data.load("digits")
    model = nc.models.lenet5()
    page = Dashboard(model)
    model.fit(train.subset(np.arange(96)), epochs=8, batch_size=16, callbacks=[page], progress=False)
    assert len(page._points) <= 10
    assert page._points[0]["step"] == 1
    page._server._socket.close()


def test_a_dashboard_shows_the_last_step_even_if_little_time_has_passed(monkeypatch):
    from numbacnn.serve import dashboard as module

    monkeypatch.setattr(module, "SECONDS", 3600.0)
    train, _ = nc.data.load("digits")
    model = nc.models.lenet5()
    page = Dashboard(model)
    model.fit(train.subset(np.arange(96)), epochs=2, batch_size=16, callbacks=[page], progress=False)
    assert [point["step"] for point in page._points] == [1, 12]
    page._server._socket.close()


def test_a_dashboard_follows_models_with_several_inputs_and_with_several_outputs(rng):
    images, rows = rng.integers(0, 256, (40, 6, 6, 1), np.uint8), rng.normal(size=(40, 4)).astype(np.float32)
    labels = np.arange(40) % 3
    picture, row = nc.Input((6, 6, 1)), nc.Input((4,))
    joined = nc.Concat()([nc.Flatten()(picture), row])
    two_inputs = nc.Model([picture, row], nc.Dense(3)(joined), seed=0)
    data = nc.data.Dataset.from_arrays(images, labels, others=[rows])
    page = Dashboard(two_inputs, data)
    with page:
        two_inputs.fit(data, validation=data, epochs=1, batch_size=20, callbacks=[page], progress=False)
    wrong = (two_inputs.predict((images, rows)).argmax(axis=1) != labels).sum()
    assert len(page._latest["mistakes"]["list"]) == min(wrong, 24) > 0
    two_outputs = nc.Model(picture, [nc.Dense(3)(nc.Flatten()(picture)), nc.Dense(2)(nc.Flatten()(picture))])
    page = Dashboard(two_outputs, nc.data.Dataset.from_arrays(images, labels))
    page._epochs.append({"epoch": 1})
    assert page._mistakes() == {"epoch": 1, "list": []}
    page.close()


@pytest.mark.parametrize(("seconds", "expected"), [(0.1, 2), (30.0, 1)])
def test_a_dashboard_that_closes_adds_the_last_mistakes_only_if_they_take_little_time(seconds, expected):
    page = Dashboard(nc.models.lenet5())
    page._epochs = [{"epoch": 1}, {"epoch": 2}]
    page._latest["mistakes"] = {"epoch": 1, "list": []}
    page._mistake_budget.last = seconds
    page.close()
    assert page._latest["mistakes"]["epoch"] == expected


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_a_dashboard_stops_serving_and_hides_no_error_if_mistakes_cannot_be_computed(monkeypatch, error):
    monkeypatch.setattr(Dashboard, "_mistakes", lambda _: 1 / 0)
    page = Dashboard(nc.models.lenet5())
    page._epochs = [{"epoch": 1}, {"epoch": 2}]
    page._latest["mistakes"] = {"epoch": 1, "list": []}

    def serve():
        with page:
            assert ask(page.url, "health").status == 200
            if error is not None:
                raise error

    with pytest.raises(ZeroDivisionError if error is None else KeyboardInterrupt):
        serve()
    with pytest.raises(ConnectionRefusedError):
        ask(page.url, "health")
