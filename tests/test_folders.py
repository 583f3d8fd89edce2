"""Reading real benchmarks; each test is skipped where its archive is absent."""

from shared import unpacked

from dgdd_nb.folders import from_folder


def test_pacs_has_the_published_counts(tmp_path):
    pacs = from_folder(unpacked("PACS", "pacs_64px.tar", tmp_path), 64)
    assert len(pacs) == 9991
    assert pacs.domain_names == ("art_painting", "cartoon", "photo", "sketch")
    assert pacs.classes == ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    assert pacs.counts().tolist() == [
        [379, 255, 285, 184, 201, 295, 449],
        [389, 457, 346, 135, 324, 288, 405],
        [189, 202, 182, 186, 199, 280, 432],
        [772, 740, 753, 608, 816, 80, 160],
    ]
    source, target = pacs.leave_out("sketch")
    assert (source.K, len(source), len(target)) == (3, 6062, 3929)


def test_digits_have_train_and_val(tmp_path):
    names = ("usps", "street_chars")
    root = unpacked("digits_dg_like", "digits_real_32px.tar", tmp_path, keep=names)
    digits = from_folder(root, domains=names, workers=2)
    assert digits.part_names == ("train", "val")
    assert digits.size == (32, 32)
    assert digits.part("train").counts().tolist() == [
        [480] * 10, [62, 52, 47, 29, 30, 33, 34, 25, 17, 29]]
    assert digits.part("val").counts().tolist() == [
        [120] * 10, [16, 13, 12, 7, 7, 8, 8, 6, 4, 7]]
    source, target = digits.leave_out("street_chars")
    assert (len(source), len(target)) == (4800, 446)  # the whole target, as in the literature
