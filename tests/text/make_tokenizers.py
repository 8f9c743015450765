#!/usr/bin/env python3
"""Trains small tokenisers with other people's libraries and stores what those give for nasty texts.

    python3.11 -m venv venv
    venv/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3
    venv/bin/python tests/text/make_tokenizers.py

writes tests/text/data: one tokenizer.json or tokenizer.model a kind, and expected.json with the ids
and the decoded texts. The tests need the data only. All training text is made here, from a seed.
"""
import io
import json
import os
import random
import unicodedata

import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")
SIZE = 420  # tokens beside the alphabet

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
FOLDED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{FOLDED}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
         rf"{FOLDED}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK3 = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
             "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|"
             "\\s+(?!\\S)|\\s+")
SPACE = "\u2581"


def words(rng, count):
    onsets = ["b", "br", "c", "d", "dr", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "st",
              "t", "th", "v", "w", "sch", ""]
    vowels = ["a", "e", "i", "o", "u", "ai", "ea", "ou", "ü", "é"]
    codas = ["", "", "n", "r", "s", "t", "ll", "ng", "nd", "ck"]
    made = []
    for _ in range(count):
        made.append("".join(rng.choice(onsets) + rng.choice(vowels) + rng.choice(codas)
                            for _ in range(rng.choice([1, 1, 2, 2, 3]))))
    return made


def training_lines(seed):
    rng = random.Random(seed)
    vocabulary = words(rng, 400)
    cjk = "我想在家工作天地人日月山水木火土金大小中上下"
    lines = []
    for _ in range(3000):
        line = " ".join(rng.choices(vocabulary, k=rng.randint(4, 14)))
        kind = rng.randint(0, 9)
        if kind == 0:
            line = line.title() + "."
        elif kind == 1:
            line = f"    {line.split()[0]}({rng.randint(0, 9999)}) = {rng.random():.3f};"
        elif kind == 2:
            line += " " + "".join(rng.choices(cjk, k=rng.randint(2, 9))) + "。"
        elif kind == 3:
            line = line.replace(" ", "'s ", 1) + "!?\t" + line.upper()
        elif kind == 4:
            line = line.replace(" ", "  ") + " \u043f\u0440\u0438\u0432\u0435\u0442"
        lines.append(line)
    return lines


def random_unicode(rng, length):
    pools = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF),
             (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F),
             (0x2070, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x4EFF), (0xAC00, 0xACFF),
             (0xF900, 0xFAFF), (0xFF00, 0xFFEF), (0x1D400, 0x1D4FF), (0x1F300, 0x1F6FF), (0, 0x1F)]
    text = ""
    while len(text) < length:
        low, high = rng.choice(pools)
        for _ in range(rng.randint(1, 4)):
            char = chr(rng.randint(low, high))
            if unicodedata.category(char) not in ("Cn", "Cs"):
                text += char
    return text


def test_texts():
    rng = random.Random(7)
    texts = [
        "", " ", "  ", "   ", "\t", "\n", "\n\n\n", " \n ", "\r\n", "a", "A", " a", "a ", "ab cd",
        "Hello world", " Hello  world ", "Hello, y'all! I'm THEY'LL we'Re it'ſ DON'T", "'s 't 're",
        "3", "33", "333", "3333", "12345678901", "x1y22z333", "3.14, 1,000,000 and ½ ²³ Ⅷ",
        "!!!", "a.b,c;d", "foo_bar(baz) /* qux */ // end\n", "if (a<b) {\n\treturn  x;\n}\n",
        "http://example.org/a/b?c=d&e=f", "ＦＵＬＬ　ｗｉｄｔｈ", "ﬁne ﬀ ﬃ", "Ǆ ǆ ǅ", "İstanbul ıI",
        "Straße ΑΣ ΣΑΣ ς", "Zoë naïve Ångström e\u0301 \u0301x a\u0323\u0307 a\u0307\u0323",
        "我想在家工作。天地", "日本語 テスト ひらがな ｶﾞｷﾞ", "한국어 \u1112\u1161\u11ab 각",
        "ไทย कखग क्षि कि", "עברית العربية ١٢٣", "🦙 🚀 👩‍👩‍👧‍👦 🇩🇪 ☺️ 1️⃣", "\u200b\u200d\ufeff\u00ad\u2028",
        "a\u0000b", "\ufffd \ufffe", "▁▁ ▁x ▁", "<s>", "<s> <s>", "a<s>b", "<s>hello</s>", "</s>x",
        "<|x|>", "x<|x|>y", " <|x|> ", "<unk> text", "[CLS] a [SEP]", "[MASK]", "a <lstrip> b",
        "a<lstrip>b", "  <lstrip>  <lstrip> ", "a <rstrip>   b", "<rstrip> <rstrip> x",
        "one <both> two <both>", "aword word words sword word", "word", " word ", "Day day DAY dAy",
        "today Day-by-Day", "Ωmega ωmega", "<s><|x|></s>", "<lstrip", "<|x|<|x|>", "it's 's'S",
        "tab\tseparated\tvalues", "trailing spaces   \n", "  leading", "a\u00a0b\u2003c\u3000d",
        "x" * 70, "ab" * 40, " " * 40, "\n" * 20, "-" * 33, "1" * 31, "é" * 20, "天" * 20,
        "A" * 101, "a" * 100 + " b",
    ]
    vocabulary = words(random.Random(1), 400)
    for _ in range(20):
        texts.append(" ".join(rng.choices(vocabulary, k=rng.randint(3, 12))) +
                     rng.choice(["", ".", "!", "\n"]))
    for length in (5, 10, 20, 40) * 8:
        texts.append(random_unicode(rng, length))
    return texts


ADDED = [
    AddedToken("<lstrip>", lstrip=True, normalized=False),
    AddedToken("<rstrip>", rstrip=True, normalized=False),
    AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
    AddedToken("word", single_word=True, normalized=False),
    AddedToken("Day", normalized=True),
    AddedToken("Ωmega", normalized=True),
]
SPECIAL = [AddedToken(t, special=True, normalized=False)
           for t in ("<unk>", "<s>", "</s>", "<|x|>")]
BERT_SPECIAL = [AddedToken(t, special=True, normalized=False)
                for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]


def template(start, end, tokenizer):
    parts = ([start] if start else []) + ["$A"] + ([end] if end else [])
    pair = parts + ["$B:1"]
    ids = [(t, tokenizer.token_to_id(t)) for t in (start, end) if t]
    return processors.TemplateProcessing(single=" ".join(parts), pair=" ".join(pair),
                                         special_tokens=ids)


def finish(tokenizer, special=None):
    tokenizer.add_special_tokens(special or SPECIAL)
    tokenizer.add_tokens(ADDED)
    return tokenizer


def byte_level(lines, splitter, normalizer=None, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=256 + SIZE, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(lines, trainer)
    return finish(tokenizer)


def with_model(tokenizer, **changes):
    """The same tokeniser with other options of its model."""
    parsed = json.loads(tokenizer.to_str())
    parsed["model"].update(changes)
    return Tokenizer.from_str(json.dumps(parsed))


def split(pattern, behavior="isolated", invert=False, regex=True):
    return pre_tokenizers.Split(Regex(pattern) if regex else pattern, behavior, invert)


def raw_bytes():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def byte_level_kinds(lines):
    seq = pre_tokenizers.Sequence
    gpt2 = byte_level(lines, pre_tokenizers.ByteLevel(add_prefix_space=False))
    yield "bpe_gpt2", gpt2
    roberta = byte_level(lines, pre_tokenizers.ByteLevel(add_prefix_space=True))
    roberta.post_processor = processors.RobertaProcessing(
        ("</s>", roberta.token_to_id("</s>")), ("<s>", roberta.token_to_id("<s>")))
    yield "bpe_roberta", roberta
    llama3 = with_model(byte_level(lines, seq([split(LLAMA3), raw_bytes()])), ignore_merges=True)
    llama3.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), template("<s>", None, llama3)])
    yield "bpe_llama3", llama3
    yield "bpe_qwen2", byte_level(lines, seq([split(QWEN2), raw_bytes()]), normalizers.NFC())
    yield "bpe_gpt4o", byte_level(lines, seq([split(GPT4O), raw_bytes()]))
    yield "bpe_deepseek3", byte_level(lines, seq([
        split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK3), raw_bytes()]))
    yield "bpe_starcoder", byte_level(lines, seq([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    yield "bpe_falcon", byte_level(lines, seq([
        pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]"), raw_bytes()]))
    yield "bpe_regex", byte_level(lines, seq([
        split(r"(?=(\d{3})+(?!\d))"), split(r"\w+(?:-\w+)*|[^\w\s]|\s{1,2}"), raw_bytes()]))


def character_kinds(lines):
    fallback = [f"<0x{i:02X}>" for i in range(256)]
    chain = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(),
                               decoders.Fuse(), decoders.Strip(" ", 1, 0)])

    def train(splitter, normalizer, use_fallback=True, special=SPECIAL, **options):
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **options))
        if normalizer:
            tokenizer.normalizer = normalizer
        # Trained on words, used without a splitter, as converted SentencePiece models are.
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        names = [t.content for t in special] + (fallback if use_fallback else [])
        trainer = trainers.BpeTrainer(
            vocab_size=len(names) + 60 + SIZE, show_progress=False, special_tokens=names,
            limit_alphabet=60)
        tokenizer.train_from_iterator(lines, trainer)
        parsed = json.loads(tokenizer.to_str())
        # Byte tokens are tokens of the model, not added ones.
        parsed["added_tokens"] = [t for t in parsed["added_tokens"]
                                  if t["content"] not in fallback]
        parsed["pre_tokenizer"] = None
        tokenizer = Tokenizer.from_str(json.dumps(parsed))
        if splitter:
            tokenizer.pre_tokenizer = splitter
        tokenizer.decoder = chain
        tokenizer.add_tokens(ADDED)
        return tokenizer

    llama = train(None, normalizers.Sequence([normalizers.Prepend(SPACE),
                                              normalizers.Replace(" ", SPACE)]))
    llama = with_model(llama, byte_fallback=True, fuse_unk=True)
    llama.post_processor = template("<s>", None, llama)
    yield "bpe_llama", llama
    yield "bpe_unknown", with_model(train(None, normalizers.Replace(" ", SPACE),
                                          use_fallback=False), fuse_unk=True)
    yield "bpe_unknown_apart", train(pre_tokenizers.Metaspace(), None, use_fallback=False)
    first = with_model(train(pre_tokenizers.Metaspace(prepend_scheme="first", split=False), None),
                       byte_fallback=True)
    first.decoder = decoders.Sequence([decoders.ByteFallback(),
                                       decoders.Metaspace(prepend_scheme="first", split=False)])
    yield "bpe_metaspace_first", first
    gemma = with_model(train(split(" ", "merged_with_previous", regex=False),
                             normalizers.Replace(" ", SPACE)), byte_fallback=True, fuse_unk=True)
    gemma.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(),
                                       decoders.Fuse()])
    yield "bpe_gemma", gemma


def suffix_kinds(lines):
    clip = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    clip.normalizer = normalizers.Sequence([
        normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    clip.pre_tokenizer = pre_tokenizers.Sequence([
        split(r"<\|x\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", "removed",
              True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(vocab_size=512 + SIZE, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=[t.content for t in SPECIAL],
                                  end_of_word_suffix="</w>")
    clip.train_from_iterator(lines, trainer)
    clip.add_tokens(ADDED)
    clip.decoder = decoders.ByteLevel()
    clip.post_processor = processors.RobertaProcessing(
        ("</s>", clip.token_to_id("</s>")), ("<s>", clip.token_to_id("<s>")),
        add_prefix_space=False)
    yield "bpe_clip", clip
    old = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##",
                               end_of_word_suffix="</w>"))
    old.normalizer = normalizers.NFKC()
    old.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=300 + SIZE, show_progress=False,
                                  special_tokens=[t.content for t in SPECIAL],
                                  continuing_subword_prefix="##", end_of_word_suffix="</w>")
    old.train_from_iterator(lines, trainer)
    old.add_tokens(ADDED)
    old.decoder = decoders.BPEDecoder()
    yield "bpe_prefix_suffix", old


def word_kinds(lines):
    for name, lower, accents in (("bert_uncased", True, None), ("bert_cased", False, False)):
        bert = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        bert.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=accents)
        bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=200 + SIZE, show_progress=False,
                                            special_tokens=[t.content for t in BERT_SPECIAL])
        bert.train_from_iterator(lines, trainer)
        bert.add_tokens(ADDED)
        bert.decoder = decoders.WordPiece()
        ids = {t: bert.token_to_id(t) for t in ("[SEP]", "[CLS]")}
        if lower:
            bert.post_processor = template("[CLS]", "[SEP]", bert)
        else:
            bert.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]),
                                                            ("[CLS]", ids["[CLS]"]))
        yield name, bert
    level = Tokenizer(models.WordLevel(unk_token="<unk>"))
    level.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(),
                                             normalizers.Strip(), normalizers.Lowercase()])
    level.pre_tokenizer = pre_tokenizers.Whitespace()
    level.train_from_iterator(lines, trainers.WordLevelTrainer(
        vocab_size=SIZE, show_progress=False, special_tokens=[t.content for t in SPECIAL]))
    level.add_tokens(ADDED)
    yield "word_level", level


def odd_kinds(lines):
    seq = pre_tokenizers.Sequence
    odd = {
        "odd_previous": seq([split(r"[,.;!?]+", "merged_with_previous"),
                             pre_tokenizers.WhitespaceSplit()]),
        "odd_next": seq([pre_tokenizers.CharDelimiterSplit("-"),
                         split(" ", "merged_with_next", regex=False),
                         pre_tokenizers.FixedLength(7)]),
        "odd_contiguous": seq([split(r"\s", "contiguous"),
                               pre_tokenizers.Punctuation("merged_with_next"),
                               split("[aeiou]", "merged_with_previous", True)]),
        "odd_removed": seq([split("e", "removed", regex=False), pre_tokenizers.Digits(False),
                            split(r"\p{Lu}", "merged_with_next")]),
    }
    forms = {
        "odd_previous": normalizers.Sequence([normalizers.Nmt(), normalizers.NFKD(),
                                              normalizers.Strip(left=True, right=False)]),
        "odd_next": normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(left=False)]),
        "odd_contiguous": normalizers.ByteLevel(),
        "odd_removed": normalizers.Sequence([normalizers.Replace(Regex("[0-9]"), "#"),
                                             normalizers.Prepend("x")]),
    }
    for name, splitter in odd.items():
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.normalizer = forms[name]
        tokenizer.pre_tokenizer = splitter
        tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
            vocab_size=80 + SIZE // 2, show_progress=False, limit_alphabet=80,
            special_tokens=[t.content for t in SPECIAL]))
        tokenizer.add_tokens(ADDED)
        tokenizer.decoder = decoders.Fuse()
        yield name, tokenizer


def sentencepiece_model(lines, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, minloglevel=2, num_threads=1, **options)
    return out.getvalue()


def charsmap_of(model):
    """The precompiled charsmap of a model: field 2 of field 3 of the protobuf."""
    def fields(data):
        at = 0
        while at < len(data):
            tag = shift = 0
            while True:
                tag |= (data[at] & 127) << shift
                shift += 7
                at += 1
                if data[at - 1] < 128:
                    break
            kind = tag & 7
            if kind == 2:
                size = shift = 0
                while True:
                    size |= (data[at] & 127) << shift
                    shift += 7
                    at += 1
                    if data[at - 1] < 128:
                        break
                yield tag >> 3, data[at:at + size]
                at += size
            elif kind == 0:
                while data[at] >= 128:
                    at += 1
                at += 1
            else:
                at += 4 if kind == 5 else 8
    spec = dict(fields(dict(fields(model))[3]))
    return spec[2]


# A few rules in place of SentencePiece's 200 kB of NFKC: longer than one character, to nothing,
# to a space, to several characters.
RULES = [("FB01", "66 69"), ("FF21", "41"), ("FF22", "42"), ("3000", "20"), ("00A0", "20"),
         ("2003", "20"), ("00AD", ""), ("200B", ""), ("65 0301", "00E9"), ("0065 0301 0323", "45"),
         ("1112 1161 11AB", "D55C"), ("FF76 FF9E", "30AC"), ("00BD", "31 2F 32"), ("9", "20"),
         ("A", "20"), ("D", "20"), ("FFFD", "20"), ("130", "69 307")]


def unigram_kinds(lines, charsmap):
    import base64

    def unigram(name, splitter, normalizer, byte_fallback):
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        names = [t.content for t in SPECIAL]
        if byte_fallback:
            names += [f"<0x{i:02X}>" for i in range(256)]
        tokenizer.train_from_iterator(lines, trainers.UnigramTrainer(
            vocab_size=len(names) + 60 + SIZE, show_progress=False, unk_token="<unk>",
            special_tokens=names))
        parsed = json.loads(tokenizer.to_str())
        parsed["added_tokens"] = [t for t in parsed["added_tokens"]
                                  if not t["content"].startswith("<0x")]
        # Training in threads sums in any order: keep what is stored stable.
        parsed["model"]["vocab"] = [[p, round(s, 5)] for p, s in parsed["model"]["vocab"]]
        parsed["model"]["byte_fallback"] = byte_fallback
        parsed["normalizer"] = normalizer
        parsed["pre_tokenizer"] = splitter
        tokenizer = Tokenizer.from_str(json.dumps(parsed))
        tokenizer.decoder = decoders.Metaspace()
        if byte_fallback:
            tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
        tokenizer.add_tokens(ADDED)
        tokenizer.post_processor = template(None, "</s>", tokenizer)
        return name, tokenizer

    precompiled = {"type": "Precompiled",
                   "precompiled_charsmap": base64.b64encode(charsmap).decode()}
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always",
                 "split": True}
    yield unigram("unigram_t5", metaspace,
                  {"type": "Sequence", "normalizers": [precompiled, spaces]}, False)
    yield unigram("unigram_xlmr", {"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"}, metaspace]}, precompiled, True)
    yield unigram("unigram_whole", None, {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]}, False)


def main():
    os.makedirs(DATA, exist_ok=True)
    lines = training_lines(3)
    texts = test_texts()
    entries = []
    rules = os.path.join(DATA, "rules.tsv")
    with open(rules, "w", encoding="utf-8") as out:
        out.writelines(f"{source}\t{target}\n" for source, target in RULES)
    common = {"vocab_size": 60 + SIZE, "character_coverage": 0.995, "hard_vocab_limit": False,
              "normalization_rule_tsv": rules}
    spm = {
        "spm_bpe": dict(common, model_type="bpe", byte_fallback=True, vocab_size=320 + SIZE,
                        normalization_rule_name="identity", remove_extra_whitespaces=False,
                        user_defined_symbols=["<usr>", "word", SPACE + SPACE, "天地"]),
        "spm_bpe_unknown": dict(common, model_type="bpe"),
        "spm_unigram": dict(common, model_type="unigram",
                            user_defined_symbols=["<usr>", "天地"]),
        "spm_unigram_bytes": dict(common, model_type="unigram", byte_fallback=True,
                                  vocab_size=320 + SIZE, add_dummy_prefix=False,
                                  remove_extra_whitespaces=False),
        "spm_suffix": dict(common, model_type="unigram", treat_whitespace_as_suffix=True),
    }
    spm["spm_bpe"].pop("normalization_rule_tsv")
    charsmap = None
    for name, options in spm.items():
        model = sentencepiece_model(lines, **options)
        charsmap = charsmap or (charsmap_of(model) if name == "spm_unigram" else None)
        with open(os.path.join(DATA, name + ".model"), "wb") as out:
            out.write(model)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        plain = [t for t in texts if "\0" not in t and "<s>" not in t and "</s>" not in t and
                 "<unk>" not in t]
        plain += ["a<usr>b", "<usr> x", "x 天地 y", "a  b   c    d", "words word"]
        ids = [processor.encode(t) for t in plain]
        entries.append({"file": name + ".model", "texts": plain, "ids": ids,
                        "decoded": [processor.decode(i) for i in ids]})
    os.remove(rules)
    kinds = [*byte_level_kinds(lines), *character_kinds(lines), *suffix_kinds(lines),
             *word_kinds(lines), *odd_kinds(lines), *unigram_kinds(lines, charsmap)]
    for name, tokenizer in kinds:
        parsed = json.loads(tokenizer.to_str())
        with open(os.path.join(DATA, name + ".json"), "w", encoding="utf-8") as out:
            json.dump(parsed, out, ensure_ascii=False, separators=(",", ":"))
        tokenizer = Tokenizer.from_str(json.dumps(parsed))
        ids = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        entries.append({
            "file": name + ".json",
            "ids": ids,
            "special": [tokenizer.encode(t).ids for t in texts[10:20]],
            "decoded": [tokenizer.decode(i, skip_special_tokens=False) for i in ids],
            "skipped": [tokenizer.decode(i, skip_special_tokens=True) for i in ids[40:70]],
        })
    with open(os.path.join(DATA, "expected.json"), "w", encoding="utf-8") as out:
        json.dump({"texts": texts, "tokenizers": entries}, out, ensure_ascii=True,
                  separators=(",", ":"))


main()
