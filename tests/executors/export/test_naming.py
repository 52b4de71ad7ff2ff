"""Names of columns: what every reader takes, each once whatever the case (G3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.export.naming import names_of


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (["_id", "name"], ["_id", "name"]),
        (["a.b", "$c", "d/e", "f g", ""], ["a_b", "_c", "d_e", "f_g", "_"]),
        (["Name", "name", "NAME"], ["Name", "name__2", "NAME__3"]),
        (["straße", "STRASSE"], ["straße", "STRASSE__2"]),
        (["caf\u00e9", "cafe\u0301"], ["caf\u00e9", "cafe\u0301__2"]),
        (["größe", "名前", "ключ"], ["größe", "名前", "ключ"]),
        (["a.b", "a_b"], ["a_b__2", "a_b"]),
        (["a", "A", "a__2"], ["a", "A__3", "a__2"]),
        (["a__2", "a", "A"], ["a__2", "a", "A__3"]),
        (["x\ny", "x\ty"], ["x_y", "x_y__2"]),
    ],
)
def test_a_field_keeps_its_name_if_readers_take_it(fields: list[str], names: list[str]) -> None:
    assert names_of(fields) == names


@given(st.lists(st.text("aAbB._$ éÉ2", max_size=6), unique=True))
def test_no_two_names_are_the_same_to_a_reader(fields: list[str]) -> None:
    names = names_of(fields)
    assert len({name.casefold() for name in names}) == len(fields)
    assert not any(set(name) & set(". $/") for name in names)
    assert all(names)
    assert names_of(fields) == names
