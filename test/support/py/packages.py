"""One piece of real work for each of the large packages with C code, with an answer that the test can work out by itself."""

import hashlib
import io
import threading


def who():
    """Which of the Pythons in one process this is."""
    return threading.main_thread().native_id


def use_numpy(seed):
    """A linear system with a known solution, a spectrum with a known peak, a determinant."""
    import numpy as np

    rng = np.random.default_rng(seed)
    a = rng.normal(size=(60, 60)) + 60 * np.eye(60)
    x = np.arange(60.0) + seed
    off = np.abs(np.linalg.solve(a, a @ x) - x).max()
    wave = np.sin(2 * np.pi * (seed % 100 + 1) * np.arange(512) / 512)
    peak = int(np.abs(np.fft.rfft(wave)).argmax())
    return [float(off) < 1e-6, peak, int(np.arange(seed + 1, dtype=np.int64).sum())]


def use_pandas(seed):
    import pandas as pd

    table = pd.DataFrame({"group": [i % 3 for i in range(30)], "value": range(seed, seed + 30)})
    sums = table.groupby("group")["value"].sum()
    names = pd.DataFrame({"group": [0, 1, 2], "name": ["a", "b", "c"]})
    merged = table.merge(names, on="group").groupby("name")["value"].max()
    days = pd.date_range("2024-02-27", periods=4)
    return [sums.tolist(), merged.to_dict(), str(days[-1].date())]


def use_sklearn(seed):
    """Two clouds of points (OpenMP), and a plane through points."""
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(seed)
    clouds = np.concatenate([rng.normal(0, 0.1, (40, 2)), rng.normal(10 + seed % 5, 0.1, (60, 2))])
    found = KMeans(n_clusters=2, n_init=2, random_state=0).fit(clouds)
    x = rng.normal(size=(100, 3))
    weights = LinearRegression().fit(x, x @ [1.0, -2.0, float(seed)] + 5).coef_
    return [sorted(np.bincount(found.labels_).tolist()), [round(float(w)) for w in weights]]


def use_pyarrow(seed):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pa.table({"n": list(range(seed, seed + 1000)), "text": [f"row {i % 7}" for i in range(1000)]})
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    back = pq.read_table(io.BytesIO(file.getvalue()))
    counts = back.group_by("text").aggregate([("n", "count")]).sort_by("text")
    return [pc.sum(back["n"]).as_py(), counts["n_count"].to_pylist(), back.equals(table)]


def use_lxml(seed):
    from lxml import etree

    items = "".join(f"<item n='{i}'>{i * seed}</item>" for i in range(10))
    root = etree.fromstring(f"<list>{items}</list>")
    style = etree.XSLT(
        etree.fromstring(
            "<x:stylesheet version='1.0' xmlns:x='http://www.w3.org/1999/XSL/Transform'><x:output method='text'/>"
            "<x:template match='/'><x:value-of select='sum(//item)'/></x:template></x:stylesheet>"
        )
    )
    try:
        etree.fromstring("<a><b></a>")
        broken = "parsed"
    except etree.XMLSyntaxError as error:
        broken = error.position[0]
    return [int(str(style(root))), root.xpath("//item[@n > 7]/text()"), broken]


def use_pillow(seed):
    from PIL import Image, ImageDraw, ImageFilter

    colour = (seed % 256, 100, 200)
    image = Image.new("RGB", (64, 64), "black")
    ImageDraw.Draw(image).rectangle((16, 16, 47, 47), fill=colour)
    file = io.BytesIO()
    image.save(file, "PNG")
    back = Image.open(io.BytesIO(file.getvalue()))
    small = back.resize((8, 8), Image.Resampling.NEAREST)
    jpeg = io.BytesIO()
    back.filter(ImageFilter.GaussianBlur(1)).save(jpeg, "JPEG", quality=95)
    middle = Image.open(io.BytesIO(jpeg.getvalue())).getpixel((32, 32))
    near = all(abs(is_ - should) < 8 for is_, should in zip(middle, colour))
    return [back.getpixel((32, 32)), small.getpixel((0, 0)), len(back.getcolors()), near]


def use_cryptography(seed, key, nonce):
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    text = str(seed).encode() * 10
    sealed = AESGCM(key).encrypt(nonce, text, b"seed")
    try:
        AESGCM(key).decrypt(nonce, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"seed")
        forged = "accepted"
    except InvalidTag:
        forged = "refused"
    digest = hashes.Hash(hashes.SHA3_256())
    digest.update(text)
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(text).digest())
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return [sealed, forged, digest.finalize(), public, private.sign(text)]
