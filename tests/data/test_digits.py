"""python -m data.digits: scikit-learn's digits as a data folder, split between pages."""

import re

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits

from data.annotations.table import read_table
from data.digits import PAGES, write_digits


def test_the_folder_has_all_digits_and_no_page_is_in_both_parts(tmp_path):
    write_digits(tmp_path / "digits")
    digits = load_digits()
    train = read_table([tmp_path / "digits/train"])
    answers = pd.read_csv(tmp_path / "digits/eval/answers.csv")
    assert not set(train["person"]) & set(answers["person"])
    files = [*train["path"], *(f"{tmp_path}/digits/eval/images/{name}" for name in answers["ImageID"])]
    assert [*train["digit"].astype(int), *answers["digit"]] == digits.target.tolist()
    np.testing.assert_array_equal(
        [np.rint(np.array(Image.open(file)) / 255 * 16) for file in files[::100]], digits.images[::100]
    )
    facts = answers.groupby("digit")[["loops", "parity"]].agg(set)
    assert [*facts["loops"]] == [
        {"none"} if n in (1, 2, 3, 4, 5, 7) else {"two" if n == 8 else "one"} for n in range(10)
    ]
    assert facts["parity"].tolist() == [{"even"}, {"odd"}] * 5


def test_every_page_begins_with_the_same_digits():
    target = "".join(map(str, load_digits().target))
    starts = [re.match("0?1234567890123456", target[page:]) for page in PAGES]
    assert all(starts)
    assert len(re.findall("95565098984177351", target)) == len(PAGES), "in the middle of each page"
