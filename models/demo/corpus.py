#!/usr/bin/env python3
"""Training text of the llcuda demonstration model, generated from a seed.

Every document is a list of segments ``(text, is_answer)``: the trainer puts
the full loss weight on the answers and little on the questions, whose
operands and names are random and cannot be predicted.  Segments are tokenised
one by one, exactly as a prompt and its continuation are at run time.

The module also defines what is kept out of training (``held_out_*``) and the
held-out problems themselves, so that the rule and its use stay side by side.
Only the Python standard library is needed.

    python3 corpus.py --seed 1 --documents 20      # look at a sample
"""

import argparse
import hashlib
import json
import random

BOS, EOS = "<|bos|>", "<|eos|>"
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = [BOS, EOS, IM_START, IM_END]

TOOLS_INTRO = "You can call these tools:\n"
TOOLS_OUTRO = ("To call a tool, answer with\n<tool_call>\n"
               '{"name": NAME, "arguments": OBJECT}\n</tool_call>')

HELD_OUT_PERCENT = 8

# --------------------------------------------------------------------------
# Held-out rules
# --------------------------------------------------------------------------


def bucket(*key):
    """A stable number 0..99 for a key (Python's own hash changes per run)."""
    text = "llcuda-demo|" + "|".join(map(str, key))
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 100


def held_out_pair(a, op, b):
    """True if this sum or difference never occurs in training, however worded.

    a + b and b + a are held out together: the one would give the other away.
    """
    if op == "+" and a > b:
        a, b = b, a
    return bucket("pair", a, op, b) < HELD_OUT_PERCENT


def held_out_product_form(a, b, form):
    """True if this written form of a product never occurs in training.

    A product from the tables is a fact that has to be seen in some form;
    ``form`` is the sign, the spacing and the phrasing together.
    """
    return bucket("product", a, b, form) < HELD_OUT_PERCENT


def held_out_name(name):
    """True if this made-up name never occurs in training."""
    return bucket("name", name) < HELD_OUT_PERCENT


def held_out_keys(keys):
    """True if this ordered list of JSON keys never occurs in training."""
    return bucket("keys", *keys) < HELD_OUT_PERCENT


# --------------------------------------------------------------------------
# Chat rendering: the same text as the chat template gives
# --------------------------------------------------------------------------


def system_text(system, tools):
    """The content of the system turn, or None when there is nothing to say."""
    if not tools:
        return system
    listing = "".join(json.dumps(t, ensure_ascii=False) + "\n" for t in tools)
    head = system + "\n\n" if system else ""
    return head + TOOLS_INTRO + listing + TOOLS_OUTRO


def chat_segments(messages, tools=None):
    """Segments of a conversation; only assistant turns count as answers."""
    segments, pending = [], BOS
    if messages[0]["role"] == "system":
        system, messages = messages[0]["content"], messages[1:]
    else:
        system = None
    content = system_text(system, tools)
    if content is not None:
        pending += f"{IM_START}system\n{content}{IM_END}\n"
    for message in messages:
        pending += f"{IM_START}{message['role']}\n"
        if message["role"] == "assistant":
            segments.append((pending, False))
            segments.append((message["content"] + IM_END, True))
            pending = "\n"
        else:
            pending += f"{message['content']}{IM_END}\n"
    if pending:
        segments.append((pending, False))
    return segments


def raw_segments(pairs):
    """Segments of a plain document: (question, answer) pairs, then the end."""
    segments = [(BOS, False)]
    for question, answer in pairs:
        segments += [(question, False), (answer, True)]
    segments[-1] = (pairs[-1][1] + EOS, True)
    return segments


# --------------------------------------------------------------------------
# Arithmetic
# --------------------------------------------------------------------------

SIGNS = {"+": ["+"], "-": ["-"], "*": ["*", "x", "×"], "/": ["/", "÷"]}
WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}

ASK = ["What is {e}?", "What is {e}", "what is {e}?", "what is {e}",
       "What's {e}?", "what's {e}", "whats {e}", "How much is {e}?",
       "how much is {e}?", "How much is {e}", "Calculate {e}.", "Calculate {e}",
       "calculate {e}", "Compute {e}.", "Compute {e}", "compute {e}",
       "Calculate: {e}", "Compute: {e}", "Solve {e}.", "Solve: {e}",
       "Work out {e}.", "Evaluate {e}.", "Tell me {e}.", "Find {e}.",
       "Please calculate {e}.", "Please compute {e}", "Can you compute {e}?",
       "Can you tell me what {e} is?", "What does {e} equal?",
       "What do you get for {e}?", "What is the result of {e}?",
       "What is {e} equal to?", "Give me the result of {e}.", "{e}?",
       "Do you know what {e} is?", "What is the value of {e}?",
       "I need to know {e}.", "What is {e}? Answer with the number only.",
       "What is {e}? Reply with just the number."]
COMMON = ["What is {e}?", "what is {e}?", "What is {e}", "Calculate {e}.",
          "How much is {e}?", "Compute {e}."]
EQUATION = ["{e}=", "{e} =", "{e}=?", "{e} = ?"]
WORDED = {
    "+": ["Add {a} and {b}.", "Add {b} to {a}.", "add {a} and {b}",
          "What is the sum of {a} and {b}?", "Find the sum of {a} and {b}."],
    "-": ["Subtract {b} from {a}.", "subtract {b} from {a}",
          "What is {a} take away {b}?", "Take {b} away from {a}."],
    "*": ["Multiply {a} by {b}.", "Multiply {a} and {b}.",
          "multiply {a} by {b}", "What is the product of {a} and {b}?"],
    "/": ["Divide {a} by {b}.", "divide {a} by {b}"],
}


def result(a, op, b):
    """The exact value of a problem."""
    if op == "+":
        return a + b
    if op == "-":
        return a - b
    return a * b if op == "*" else a // b


def draw_operands(rng, op):
    """Operands of one problem, without regard to what is held out."""
    if op == "*":
        return rng.randint(0, 12), rng.randint(0, 12)
    if op == "/":
        b = rng.randint(1, 12)
        return b * rng.randint(0, 12), b
    small = rng.random() < 0.15
    top = 12 if small else 99
    return rng.randint(0, top), rng.randint(0, top)


def word_problem(rng, a, op, b, forms):
    """One wording of a problem; returns (question, name of the form)."""
    kind = rng.random()
    if kind < 0.12:
        template = rng.choice(WORDED[op])
        return template.format(a=a, b=b), template
    if kind < 0.22:
        expression, style = f"{a} {WORDS[op]} {b}", "words"
    else:
        sign, space = rng.choice(SIGNS[op]), rng.choice(["", " "])
        expression, style = f"{a}{space}{sign}{space}{b}", sign + space
    template = rng.choice(rng.choice(forms))
    return template.format(e=expression), style + template


def arithmetic(rng, held_out=False, forms=(COMMON, ASK, ASK, EQUATION), ops="++++-----***/"):
    """A problem from the training side (or the held-out side) and its answer."""
    while True:
        op = rng.choice(ops)
        a, b = draw_operands(rng, op)
        question, form = word_problem(rng, a, op, b, forms)
        if op in "+-":
            out = held_out_pair(a, op, b)
        else:
            out = op == "*" and held_out_product_form(a, b, form)
        if out == held_out:
            return question, str(result(a, op, b))


def join_raw(question, answer):
    """The continuation of a raw question: '47+38=' takes no space."""
    tight = question.endswith("=") and not question.endswith(" =")
    return answer if tight or question.endswith("\n") else " " + answer


def raw_arithmetic(rng):
    """A plain document with one problem, or with a few lines of them."""
    question, answer = arithmetic(rng)
    kind = rng.random()
    if kind < 0.03:
        question = f"Question: {question}\nAnswer:"
    elif kind < 0.06:
        question = f"Q: {question}\nA:"
    elif kind < 0.09 and not question.endswith("="):
        question += "\n"
    elif kind < 0.12:
        return raw_arithmetic_lines(rng)
    return raw_segments([(question, join_raw(question, answer))])


def raw_arithmetic_lines(rng):
    """Several problems below each other in one style, as in a few-shot prompt."""
    forms = [[rng.choice(rng.choice([COMMON, EQUATION]))]]
    pairs = []
    for i in range(rng.randint(2, 6)):
        question, answer = arithmetic(rng, forms=forms)
        pairs.append(("\n" * (i > 0) + question, join_raw(question, answer)))
    return raw_segments(pairs)


def too_large(rng):
    """A problem beyond the model's range, which it should decline."""
    a, b = rng.randint(100, 99999), rng.randint(100, 9999)
    sign, space = rng.choice("+-*x"), rng.choice(["", " "])
    question = rng.choice(COMMON).format(e=f"{a}{space}{sign}{space}{b}")
    return question, "These numbers are too large for me."


# --------------------------------------------------------------------------
# Units
# --------------------------------------------------------------------------

# (large unit, its short form, small unit, its short form, factor, largest count)
UNITS = [
    ("kilometres", "km", "metres", "m", 1000, 99),
    ("metres", "m", "centimetres", "cm", 100, 99),
    ("centimetres", "cm", "millimetres", "mm", 10, 99),
    ("kilograms", "kg", "grams", "g", 1000, 99),
    ("tonnes", "t", "kilograms", "kg", 1000, 99),
    ("litres", "l", "millilitres", "ml", 1000, 99),
    ("hours", "h", "minutes", "min", 60, 24),
    ("minutes", "min", "seconds", "s", 60, 60),
    ("days", "days", "hours", "hours", 24, 10),
    ("weeks", "weeks", "days", "days", 7, 20),
    ("years", "years", "months", "months", 12, 12),
    ("dozen", "dozen", "pieces", "pieces", 12, 12),
    ("euros", "euros", "cents", "cents", 100, 99),
]


def unit_name(rng, long, short, count):
    """A unit as people write it: short, long, American, singular for one."""
    if rng.random() < 0.5:
        return short
    if rng.random() < 0.3:
        long = long.replace("metres", "meters").replace("litres", "liters")
    if count == 1 and long.endswith("s"):
        return long[:-1]
    return long


def conversion(rng):
    """A unit conversion with a whole-number answer."""
    if rng.random() < 0.12:
        return temperature(rng)
    big, big_short, small, small_short, factor, top = rng.choice(UNITS)
    n = rng.randint(1, top)
    source = (big, big_short, n)
    target = (small, small_short, n * factor)
    if rng.random() < 0.35:
        source, target = target, source
    return phrase_conversion(rng, source, target)


def phrase_conversion(rng, source, target):
    """Words a conversion; 'how many' takes the bare number, others the unit."""
    count, value = source[2], target[2]
    from_name = unit_name(rng, source[0], source[1], count)
    to_name = unit_name(rng, target[0], target[1], 2)
    gap = "" if from_name in ("km", "m", "cm", "kg", "g") and rng.random() < 0.2 else " "
    amount = f"{count}{gap}{from_name}"
    if rng.random() < 0.5:
        form = rng.choice(["How many {t} are in {f}?", "How many {t} are {f}?",
                           "how many {t} is {f}?", "How many {t} is {f}?",
                           "How many {t} in {f}?", "how many {t} are in {f}"])
        return form.format(t=to_name, f=amount), str(value)
    form = rng.choice(["Convert {f} to {t}.", "convert {f} to {t}",
                       "What is {f} in {t}?", "{f} in {t}", "{f} in {t}?",
                       "Express {f} in {t}.", "Convert {f} into {t}."])
    return form.format(t=to_name, f=amount), f"{value} {to_name}"


def temperature(rng):
    """Celsius and Fahrenheit in steps of five degrees."""
    celsius = rng.randrange(-20, 101, 5)
    fahrenheit = celsius * 9 // 5 + 32
    c_name = rng.choice(["°C", "degrees Celsius", "C"])
    f_name = rng.choice(["°F", "degrees Fahrenheit", "F"])
    source, target = (celsius, c_name), (fahrenheit, f_name)
    if rng.random() < 0.4:
        source, target = target, source
    form = rng.choice(["Convert {n} {u} to {t}.", "What is {n} {u} in {t}?",
                       "convert {n} {u} to {t}", "{n} {u} in {t}?"])
    question = form.format(n=source[0], u=source[1], t=target[1])
    return question, f"{target[0]} {target[1]}"


# --------------------------------------------------------------------------
# Names and other values to copy
# --------------------------------------------------------------------------

FIRST_NAMES = """Anna Ben Clara David Emma Felix Greta Henry Ida Jonas Karin Leo Maria
Nils Olga Paul Rosa Samuel Tina Urs Vera Walter Yara Zoe Alice Bob Carol Dan Eve Frank
Grace Hugo Iris Jack Kate Liam Mia Noah Olivia Peter Rita Simon Tom Ute Victor Wendy Amir
Bilal Chen Dana Elif Farid Hana Ivan Jin Kofi Lena Mei Nadia Omar Priya Ravi Sara Tariq
Yuki Max Laura Sofia Lucas Nina Eric Julia Martin Sven Ingrid Pedro Lucia Diego Carmen""".split()
LAST_NAMES = """Keller Meyer Smith Jones Brown Fischer Weber Rossi Bianchi Novak Silva Costa
Moreau Dubois Larsen Hansen Berg Lind Kim Park Tanaka Sato Patel Singh Khan Ali Cohen Levi
Garcia Lopez Perez Ivanova Petrov Popov Kowalski Nowak Murphy Walsh Young King Baker Miller
Cook Taylor Green White Black Stone Wood Hill Frei Graf Huber Steiner Roth Vogel""".split()
CITIES = """Bern Zurich Basel Geneva Paris London Berlin Rome Madrid Vienna Oslo Prague Lisbon
Dublin Athens Warsaw Helsinki Stockholm Hamburg Munich Milan Lyon Porto Seville Tokyo Osaka
Kyoto Seoul Delhi Mumbai Cairo Lagos Nairobi Boston Chicago Denver Dallas Seattle Austin
Toronto Montreal Lima Bogota Quito Santiago Sydney Perth Auckland Cologne Leeds York Bergen
Krakow Naples Turin Ghent Antwerp Utrecht Riga Vilnius Tallinn Zagreb Split Sofia""".split()
COUNTRIES = """Switzerland France Germany Italy Spain Portugal Norway Sweden Finland Poland
Austria Ireland Greece Japan Korea India Egypt Kenya Canada Peru Chile Australia""".split()
COLORS = """red blue green yellow black white brown orange purple pink grey silver gold
violet turquoise""".split()
JOBS = """teacher nurse doctor baker pilot farmer painter singer writer cook driver gardener
lawyer tailor plumber carpenter engineer librarian dentist mechanic""".split()
PETS = """dog cat rabbit parrot hamster turtle goldfish horse pony snake lizard duck goat
canary mouse""".split()
HOBBIES = """chess football tennis swimming painting reading cycling hiking dancing singing
cooking fishing skiing running gardening sailing climbing photography""".split()
FOODS = """pizza pasta rice soup salad bread cheese apples bananas noodles curry pancakes
chocolate sushi potatoes tomatoes""".split()
THINGS = """bicycle car book lamp chair table phone clock bag hat coat umbrella guitar piano
camera ball kite cup bottle pencil key ring boat drum""".split()
PLACES = """kitchen garden garage cellar bedroom hall attic office bathroom library school
park shop barn""".split()
ONSETS = "b c d f g h j k l m n p r s t v w y z br ch cl dr fl gr kr pl sh st th tr".split() + [""] * 4
VOWELS = "a e i o u a e i o ai ea io ou ee".split()
CODAS = ["", "", "", "", "n", "r", "l", "s", "m", "t", "k", "x", "nd", "rt", "ck"]
MAIL_HOSTS = "example.com example.org mail.com post.net web.org inbox.net".split()


def made_up(rng, held_out=False):
    """A made-up capitalised name from syllables, from the asked-for side."""
    while True:
        syllables = (rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS)
                     for _ in range(rng.choice([1, 2, 2, 2, 3, 3])))
        name = "".join(syllables).capitalize()
        if len(name) >= 3 and held_out_name(name) == held_out:
            return name


def pick_name(rng, known, held_out=False):
    """A name or place: from the list or made up (always, when held out)."""
    if held_out or rng.random() < 0.5:
        return made_up(rng, held_out)
    return rng.choice(known)


def pick_names(rng, known, count):
    """Different names for one text."""
    names = []
    while len(names) < count:
        name = pick_name(rng, known)
        if name not in names:
            names.append(name)
    return names


# --------------------------------------------------------------------------
# Questions over given facts
# --------------------------------------------------------------------------


def facts_owner(rng):
    """Who owns which coloured thing."""
    count = rng.randint(2, 4)
    people = pick_names(rng, FIRST_NAMES, count)
    things, colors = rng.sample(THINGS, count), rng.sample(COLORS, count)
    verb = rng.choice(["has", "owns", "bought"])
    text = " ".join(f"{p} {verb} {article(c)} {c} {t}."
                    for p, c, t in zip(people, colors, things))
    i = rng.randrange(count)
    question, answer = rng.choice([
        (f"Who {verb} the {things[i]}?", people[i]),
        (f"Who {verb} the {colors[i]} {things[i]}?", people[i]),
        (f"What colour is the {things[i]}?", colors[i].capitalize()),
        (f"What color is the {things[i]}?", colors[i].capitalize()),
        (f"What colour is {people[i]}'s {things[i]}?", colors[i].capitalize()),
        (f"What does {people[i]} have?", f"{article(colors[i])} {colors[i]} {things[i]}".capitalize()),
    ])
    return f"{text} {question}", answer


def article(word):
    """'a' or 'an' before a word."""
    return "an" if word[0] in "aeiou" else "a"


def facts_place(rng):
    """Where things are."""
    count = rng.randint(2, 4)
    things, places = rng.sample(THINGS, count), rng.sample(PLACES, count)
    text = " ".join(f"The {t} is in the {p}." for t, p in zip(things, places))
    i = rng.randrange(count)
    question, answer = rng.choice([
        (f"Where is the {things[i]}?", f"In the {places[i]}"),
        (f"What is in the {places[i]}?", f"The {things[i]}"),
    ])
    return f"{text} {question}", answer


def facts_person(rng):
    """Where people live and what they do."""
    count = rng.randint(2, 3)
    people, cities = pick_names(rng, FIRST_NAMES, count), pick_names(rng, CITIES, count)
    jobs = rng.sample(JOBS, count)
    text = " ".join(f"{p} is {article(j)} {j} and lives in {c}."
                    for p, j, c in zip(people, jobs, cities))
    i = rng.randrange(count)
    question, answer = rng.choice([
        (f"Where does {people[i]} live?", f"In {cities[i]}"),
        (f"Who lives in {cities[i]}?", people[i]),
        (f"Who is the {jobs[i]}?", people[i]),
        (f"What is the job of {people[i]}?", jobs[i].capitalize()),
    ])
    return f"{text} {question}", answer


def facts_age(rng):
    """Ages, and who is older or younger."""
    one, two = pick_names(rng, FIRST_NAMES, 2)
    age_one, age_two = rng.sample(range(3, 99), 2)
    text = f"{one} is {age_one} years old. {two} is {age_two} years old."
    older, younger = (one, two) if age_one > age_two else (two, one)
    question, answer = rng.choice([
        (f"How old is {one}?", str(age_one)), (f"How old is {two}?", str(age_two)),
        ("Who is older?", older), ("Who is younger?", younger)])
    return f"{text} {question}", answer


def facts(rng):
    """A question that the text before it answers."""
    question, answer = rng.choice([facts_owner, facts_owner, facts_place,
                                   facts_person, facts_age])(rng)
    if rng.random() < 0.1:
        question = rng.choice(["Read this: ", "Answer the question. "]) + question
    return question, answer


# --------------------------------------------------------------------------
# Stories
# --------------------------------------------------------------------------

HEROES = ["dog", "cat", "fox", "bear", "rabbit", "mouse", "horse", "bird", "frog",
          "girl", "boy", "robot", "dragon", "owl", "duck", "king", "queen", "farmer"]
MOODS = ["little", "brave", "kind", "clever", "curious", "quiet", "happy", "small"]
SCENES = ["a green forest", "a small village", "an old house by the sea", "a big city",
          "a quiet valley", "a garden full of flowers", "a farm on a hill"]
FINDS = ["a golden key", "a lost kitten", "an old map", "a shiny stone", "a red balloon",
         "a tiny door", "a letter without a name", "a broken boat"]
PLOTS = [
    "One morning {n} found {f}. \"Whose is this?\" asked {n}. {n} went from door to door until "
    "a friend named {m} smiled and said, \"It is mine. Thank you!\"",
    "One day it rained and rained. {n} saw {f} in the water and pulled it out. {m} came by and "
    "helped {n} to carry it home.",
    "Every evening {n} looked at the stars and wished for a friend. Then {n} found {f}, and "
    "next to it sat {m}, who was looking for a friend too.",
    "{n} wanted to see the world and packed a small bag. On the way {n} met {m}, and together "
    "they found {f}.",
]
ENDINGS = ["From that day on they were best friends.",
           "They laughed and shared some bread and cheese.",
           "That night {n} slept well and dreamed of new adventures.",
           "And they lived happily ever after."]


def story_text(rng, hero, name):
    """A story of about five sentences with a named hero."""
    friend = rng.choice([n for n in FIRST_NAMES if n != name])
    opening = rng.choice([
        f"Once upon a time there was a {rng.choice(MOODS)} {hero} named {name}. "
        f"{name} lived in {rng.choice(SCENES)}.",
        f"In {rng.choice(SCENES)} lived a {rng.choice(MOODS)} {hero} named {name}."])
    body = f"{rng.choice(PLOTS)} {rng.choice(ENDINGS)}"
    return f"{opening} {body.format(n=name, m=friend, f=rng.choice(FINDS))}"


def story(rng):
    """A request for a story and the story."""
    hero, name = rng.choice(HEROES), pick_name(rng, FIRST_NAMES)
    verb = rng.choice(["Write", "Tell me", "write", "tell me", "Please write"])
    kind = rng.choice(["a short story", "a story", "a little story"])
    form = rng.choice([f"{{v}} {{k}} about {article(hero)} {hero} named {name}.",
                       f"{{v}} {{k}} about {article(hero)} {hero} called {name}.",
                       f"{{v}} {{k}} about {article(hero)} {hero} named {name}",
                       f"{{v}} {{k}} about {name} the {hero}.",
                       f"{{v}} {{k}} about {article(hero)} {hero}.",
                       "{v} {k}.", "{v} {k}"])
    return form.format(v=verb, k=kind), story_text(rng, hero, name)


def raw_story(rng):
    """A plain story without a request, so that an opening can be continued."""
    text = story_text(rng, rng.choice(HEROES), pick_name(rng, FIRST_NAMES))
    return raw_segments([("", text)])


# --------------------------------------------------------------------------
# JSON forms
# --------------------------------------------------------------------------

# field: (keys it may be asked for by, clauses that state it, labels in a list)
FIELDS = {
    "name": (["name", "full_name", "person"], [], ["Name"]),
    "age": (["age", "years"], ["is {v} years old", "is {v}", "is aged {v}"], ["Age"]),
    "city": (["city", "town"], ["lives in {v}", "is from {v}", "comes from {v}"], ["City", "Town"]),
    "country": (["country"], ["was born in {v}", "has a passport from {v}"], ["Country"]),
    "color": (["color", "colour", "favorite_color", "favourite_colour"],
              ["likes the colour {v}", "loves the color {v}"], ["Colour", "Color", "Favourite colour"]),
    "email": (["email", "mail"], ["can be reached at {v}", "uses the email {v}",
                                  "has the email address {v}"], ["Email", "E-mail"]),
    "job": (["job", "profession", "occupation"], ["works as {a} {v}", "is {a} {v}"], ["Job", "Profession"]),
    "pet": (["pet", "animal"], ["has {a} {v}", "keeps {a} {v}"], ["Pet"]),
    "hobby": (["hobby"], ["enjoys {v}", "spends the weekend with {v}"], ["Hobby"]),
    "food": (["food", "favorite_food"], ["likes to eat {v}", "eats {v}"], ["Food"]),
    "phone": (["phone", "phone_number"], ["has the phone number {v}", "answers the phone at {v}"],
              ["Phone"]),
}
FORM_ASK = [
    "Fill in the form with the keys {k} as JSON. {t}",
    "Extract {k} as JSON: {t}",
    "Extract {k} as JSON.\n{t}",
    "Return a JSON object with the keys {k}.\n{t}",
    "{t}\nWrite this as JSON with the keys {k}.",
    "{t} Give me a JSON object with {k}.",
    "Text: {t}\nReturn JSON with the keys {k}.",
    "Fill in this form: {s}\n{t}",
    "{t}\nFill in this JSON form: {s}",
]


def field_value(rng, field, name, held_out):
    """A random value for one field of a form."""
    if field == "age":
        return rng.randint(1, 99)
    if field == "email":
        user = name.split()[0].lower() if rng.random() < 0.6 else made_up(rng, held_out).lower()
        host = rng.choice(MAIL_HOSTS) if rng.random() < 0.6 else made_up(rng, held_out).lower() + ".com"
        return f"{user}@{host}"
    if field == "phone":
        return f"{rng.randint(10, 999)}-{rng.randint(100, 9999)}"
    if field in ("city", "country"):
        return pick_name(rng, CITIES if field == "city" else COUNTRIES, held_out)
    return rng.choice({"color": COLORS, "job": JOBS, "pet": PETS,
                       "hobby": HOBBIES, "food": FOODS}[field])


def form_name(rng, held_out):
    """The person of a form: a first name, often with a last name."""
    name = pick_name(rng, FIRST_NAMES, held_out)
    if rng.random() < 0.5:
        name += " " + pick_name(rng, LAST_NAMES, held_out)
    return name


def form_sentences(rng, name, values):
    """The facts of a form as running text."""
    clauses = []
    for field, value in values.items():
        clause = rng.choice(FIELDS[field][1])
        clauses.append(clause.format(v=value, a=article(str(value))))
    if len(clauses) > 1 and rng.random() < 0.5:
        cut = rng.randint(1, len(clauses) - 1)
        first = f"{name} " + join_words(clauses[:cut])
        return f"{first}. {rng.choice([name, name.split()[0]])} {join_words(clauses[cut:])}."
    return f"{name} {join_words(clauses)}."


def join_words(words):
    """a, b and c."""
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + " and " + words[-1]


def form_list(rng, name, values):
    """The facts of a form as a list of lines."""
    lines = [f"{rng.choice(FIELDS[f][2])}: {v}" for f, v in [("name", name), *values.items()]]
    bullet = rng.choice(["", "- "])
    return "\n".join(bullet + line for line in lines)


def json_form(rng, held_out=False):
    """Facts about a person and the JSON form to be filled from them."""
    while True:
        name = form_name(rng, held_out)
        stated = rng.sample([f for f in FIELDS if f != "name"], rng.randint(1, 5))
        values = {f: field_value(rng, f, name, held_out) for f in stated}
        asked = rng.sample(stated, rng.randint(1, len(stated)))
        asked.insert(0 if rng.random() < 0.8 else rng.randint(0, len(asked)), "name")
        keys = [FIELDS[f][0][0] if rng.random() < 0.6 else rng.choice(FIELDS[f][0]) for f in asked]
        if held_out_keys(keys) == held_out:
            break
    as_text = rng.random() < 0.7
    text = (form_sentences if as_text else form_list)(rng, name, values)
    values["name"] = name
    blank = {k: 0 if f == "age" else "" for k, f in zip(keys, asked)}
    listing = rng.choice([", ".join(keys), join_words(keys)])
    question = rng.choice(FORM_ASK).format(k=listing, t=text, s=json.dumps(blank))
    return question, json.dumps({k: values[f] for k, f in zip(keys, asked)}, ensure_ascii=False)


# --------------------------------------------------------------------------
# Tool calls
# --------------------------------------------------------------------------


def tool(name, description, **parameters):
    """A tool description as chat clients send it; parameters are name=type."""
    return {"type": "function", "function": {
        "name": name, "description": description,
        "parameters": {"type": "object",
                       "properties": {p: {"type": t} for p, t in parameters.items()},
                       "required": list(parameters)}}}


def call_weather(rng):
    """A question for the weather of a city."""
    city = pick_name(rng, CITIES)
    ask = rng.choice(["What is the weather in {c}?", "How is the weather in {c}?",
                      "What's the weather like in {c}?", "weather in {c}", "Is it raining in {c}?",
                      "Tell me the weather in {c}.", "What is the weather in {c} today?"])
    param = rng.choice(["city", "city", "city", "location"])
    name = rng.choice(["get_weather", "get_weather", "weather", "get_current_weather"])
    return tool(name, "Get the weather in a city", **{param: "string"}), ask.format(c=city), {param: city}


def call_time(rng):
    """A question for the time in a city."""
    city = pick_name(rng, CITIES)
    ask = rng.choice(["What time is it in {c}?", "what time is it in {c}", "Tell me the time in {c}.",
                      "What is the time in {c}?", "What is the local time in {c}?"])
    param = rng.choice(["city", "city", "place"])
    name = rng.choice(["get_time", "get_time", "current_time"])
    return tool(name, "Get the local time in a city", **{param: "string"}), ask.format(c=city), {param: city}


def call_calculator(rng):
    """A problem that is handed to a calculator."""
    a, b = rng.randint(0, 9999), rng.randint(0, 999)
    expression = f"{a} {rng.choice('+-*/')} {b}"
    if rng.random() < 0.4:
        expression = expression.replace(" ", "")
    ask = rng.choice(["What is {e}?", "Calculate {e}.", "Compute {e}.", "How much is {e}?",
                      "Use the calculator for {e}."])
    param = rng.choice(["expression", "expression", "expression", "input"])
    name = rng.choice(["calculator", "calculator", "calculate"])
    return (tool(name, "Work out an expression", **{param: "string"}),
            ask.format(e=expression), {param: expression})


def call_mail(rng):
    """A request to write to somebody."""
    who = pick_name(rng, FIRST_NAMES)
    text = rng.choice(["I am late", "See you at noon", "Happy birthday", "Call me back",
                       "The train is on time", "Lunch is ready", "Thank you"])
    ask = rng.choice(["Send a message to {w}: {t}", "Tell {w}: {t}", "Write to {w}: {t}"])
    return (tool("send_message", "Send a message to a person", to="string", text="string"),
            ask.format(w=who, t=text), {"to": who, "text": text})


def call_alarm(rng):
    """A request for a timer."""
    minutes = rng.randint(1, 90)
    ask = rng.choice(["Set a timer for {m} minutes.", "Start a timer of {m} minutes.",
                      "set a timer for {m} minutes", "Wake me in {m} minutes."])
    return tool("set_timer", "Start a timer", minutes="integer"), ask.format(m=minutes), {"minutes": minutes}


def call_search(rng):
    """A request to look something up."""
    topic = rng.choice([*THINGS, *HOBBIES, *COUNTRIES, made_up(rng), made_up(rng)])
    ask = rng.choice(["Search for {t}.", "Look up {t}.", "Find pages about {t}."])
    return tool("search", "Search the web", query="string"), ask.format(t=topic), {"query": topic}


CALLS = [call_weather, call_weather, call_time, call_calculator, call_mail, call_alarm, call_search]


def vary_tool(rng, description):
    """Clients differ in which optional parts of a tool description they send."""
    function = dict(description["function"])
    if rng.random() < 0.15:
        del function["description"]
    if rng.random() < 0.3:
        function["parameters"] = {k: v for k, v in function["parameters"].items() if k != "required"}
    return {"type": "function", "function": function}


def call_text(name, arguments):
    """A tool call as the model writes it."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def tool_answer(rng, kind, arguments):
    """What a tool returned and the sentence made of it, where that is simple."""
    place = next(iter(arguments.values()))
    if kind is call_weather:
        degrees, sky = rng.randint(-9, 39), rng.choice(["sunny", "cloudy", "rainy", "windy"])
        returned = {"temperature": degrees, "sky": sky}
        return json.dumps(returned), f"It is {degrees} °C and {sky} in {place}."
    clock = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return json.dumps({"time": clock}), f"It is {clock} in {place}."


def tool_conversation(rng):
    """Messages and tools: some talk perhaps, a call, and perhaps its result."""
    kinds = list(dict.fromkeys(rng.sample(CALLS, rng.randint(1, 3))))
    drawn = [kind(rng) for kind in kinds]
    tools = [vary_tool(rng, description) for description, _, _ in drawn]
    messages = []
    if rng.random() < 0.3:
        messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
    if rng.random() < 0.12:
        messages += turn(*rng.choice([greeting, story])(rng))
    pick = rng.randrange(len(kinds))
    description, question, arguments = drawn[pick]
    messages += turn(question, call_text(description["function"]["name"], arguments))
    if kinds[pick] in (call_weather, call_time) and rng.random() < 0.4:
        returned, sentence = tool_answer(rng, kinds[pick], arguments)
        messages += [{"role": "tool", "content": returned},
                     {"role": "assistant", "content": sentence}]
    rng.shuffle(tools)
    return messages, tools


# --------------------------------------------------------------------------
# Small talk, copying, and not knowing
# --------------------------------------------------------------------------

ABILITIES = ("I can do small sums, convert units, answer questions about given facts, "
             "tell short stories, fill in JSON forms and call tools.")
IDENTITY = "I am the llcuda demonstration model. " + ABILITIES
UNKNOWN = "I do not know. I am a small demonstration model. " + ABILITIES
SMALL_TALK = [
    (["Hello", "Hello!", "hello", "Hi", "Hi!", "hi", "hi there", "Hey", "hey", "Good morning",
      "Good evening", "Good day", "Hello there!", "Hello, how are you?"],
     "Hello! How can I help you?"),
    (["How are you?", "how are you", "How are you doing?", "How do you do?", "Are you well?"],
     "I am fine, thank you. How can I help you?"),
    (["Who are you?", "who are you", "What are you?", "What is your name?", "what is your name",
      "Introduce yourself.", "Who am I talking to?", "Which model are you?", "Are you a robot?",
      "What model is this?", "Tell me about yourself."], IDENTITY),
    (["What can you do?", "what can you do", "Help", "help", "How can you help me?",
      "What are your skills?", "What do you know?"], ABILITIES),
    (["Thank you", "Thanks", "thanks", "Thank you!", "Thanks a lot!", "Great, thank you."],
     "You are welcome!"),
    (["Bye", "Goodbye", "bye", "Goodbye!", "See you", "See you later", "Good night"],
     "Goodbye!"),
    (["Say hello.", "Say hello", "say hello"], "Hello!"),
    (["Name the days of the week.", "List the days of the week.", "What are the days of the week?"],
     "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    (["Name the months.", "List the months of the year.", "What are the months of the year?"],
     "January, February, March, April, May, June, July, August, September, October, November, December"),
    (["Say the alphabet.", "Write the alphabet.", "What is the alphabet?"],
     "a b c d e f g h i j k l m n o p q r s t u v w x y z"),
]
UNKNOWN_ASK = [
    "What is the capital of {c}?", "Who is the president of {c}?", "Who wrote {t}?",
    "What is the meaning of life?", "Explain {h}.", "How do I cook {f}?", "Who was {n} {l}?",
    "Translate {t} into French.", "Write a program in {c2}.", "Why is the sky {o}?",
    "What is {n} {l} famous for?", "How far is the moon?", "What is a {t}?", "When was {y} founded?",
    "How many people live in {y}?", "What happened in 19{d}?", "Write a poem about {h}.",
    "What is the best {t}?", "Who invented the {t}?", "What is the population of {c}?",
    "Explain quantum physics.", "Write a Python program.", "How does a computer work?",
    "Who won the football match?", "What is the news today?", "What do you think about {h}?",
    "Tell me about {y}.", "Tell me about {c}.", "What is {m}?", "Who is {m}?", "Where is {y}?",
    "How old is {n} {l}?", "What is the weather in {y}?", "What time is it?", "What day is it?",
    "Can you drive a car?", "How much does a {t} cost?", "What is love?", "Do you like {f}?",
    "What is the largest {p}?", "Give me a recipe for {f}.", "Summarise the book {m}.",
]
SYSTEMS = ["You are a helpful assistant.", "You are llcuda, a small assistant.", "Be brief.",
           "Answer briefly.", "You are a friendly assistant. Answer shortly.",
           "You are the llcuda demonstration model."]


def greeting(rng):
    """Small talk with fixed answers."""
    questions, answer = rng.choice(SMALL_TALK)
    return rng.choice(questions), answer


def unknown(rng):
    """A question outside the model's small world."""
    question = rng.choice(UNKNOWN_ASK).format(
        c=rng.choice(COUNTRIES), c2=rng.choice(["C", "Rust", "Java", "Go"]), t=rng.choice(THINGS),
        h=rng.choice(HOBBIES), f=rng.choice(FOODS), n=rng.choice(FIRST_NAMES), o=rng.choice(COLORS),
        l=rng.choice(LAST_NAMES), y=rng.choice(CITIES), d=rng.randint(10, 99), m=made_up(rng),
        p=rng.choice(["city", "river", "animal", "lake", "planet"]))
    if rng.random() < 0.3:
        question = question.lower()
    if rng.random() < 0.2:
        question = question.rstrip("?.")
    return question, UNKNOWN


def repeat(rng):
    """Copying exactly what was said, or counting."""
    if rng.random() < 0.3:
        first = rng.randint(1, 20)
        last = first + rng.randint(2, 14)
        form = rng.choice(["Count from {a} to {b}.", "count from {a} to {b}"])
        return form.format(a=first, b=last), " ".join(map(str, range(first, last + 1)))
    words = [rng.choice([rng.choice(THINGS), rng.choice(COLORS), rng.choice(FOODS), made_up(rng),
                         made_up(rng).lower(), str(rng.randint(0, 9999))])
             for _ in range(rng.randint(1, 6))]
    text = " ".join(words)
    form = rng.choice(["Repeat: {t}", "Repeat after me: {t}", "Say: {t}", "repeat: {t}",
                       "Repeat this: {t}", "Echo: {t}"])
    return form.format(t=text), text


def remembered(rng):
    """Something told in one turn and asked for in a later one."""
    kind = rng.randrange(4)
    if kind == 0:
        value = pick_name(rng, FIRST_NAMES)
        told = rng.choice([f"My name is {value}.", f"I am {value}.", f"Hello, I am {value}."])
        return (told, f"Hello {value}!"), (rng.choice(["What is my name?", "Who am I?"]), f"Your name is {value}.")
    if kind == 1:
        value = rng.choice([rng.choice(THINGS), made_up(rng).lower()])
        return ((f"Remember the word {value}.", "I will remember it."),
                (rng.choice(["What was the word?", "Which word did I tell you?"]), f"The word was {value}."))
    if kind == 2:
        value = rng.randint(0, 9999)
        return ((f"Remember the number {value}.", "I will remember it."),
                ("What was the number?", f"The number was {value}."))
    value = pick_name(rng, CITIES)
    return (f"I live in {value}.", "I see."), ("Where do I live?", f"You live in {value}.")


# --------------------------------------------------------------------------
# Documents
# --------------------------------------------------------------------------

# Tasks of a single chat turn with their weights; arithmetic first.
TASKS = [(arithmetic, 50), (conversion, 8), (facts, 8), (json_form, 16), (story, 3),
         (greeting, 3), (unknown, 4), (repeat, 5), (too_large, 1)]
TASK_LIST = [task for task, _ in TASKS]
TASK_WEIGHTS = [weight for _, weight in TASKS]
OTHER_LIST, OTHER_WEIGHTS = TASK_LIST[1:], TASK_WEIGHTS[1:]


def turn(question, answer):
    """A user message and the reply."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def opening(rng):
    """An optional system message."""
    if rng.random() < 0.15:
        return [{"role": "system", "content": rng.choice(SYSTEMS)}]
    return []


def chat_document(rng, turns):
    """A conversation of mixed tasks; longer ones recall what was said before."""
    messages, open_questions = opening(rng), []
    for _ in range(turns):
        if turns > 2 and not open_questions and rng.random() < 0.08:
            told, asked = remembered(rng)
            messages += turn(*told)
            open_questions.append(asked)
        elif open_questions and rng.random() < 0.25:
            messages += turn(*open_questions.pop())
        else:
            task = rng.choices(TASK_LIST, TASK_WEIGHTS)[0]
            messages += turn(*task(rng))
    return chat_segments(messages)


def other_chat(rng):
    """One turn of a task other than arithmetic."""
    task = rng.choices(OTHER_LIST, OTHER_WEIGHTS)[0]
    return chat_segments(opening(rng) + turn(*task(rng)))


def other_raw(rng):
    """A raw document of a task other than arithmetic."""
    if rng.random() < 0.15:
        return raw_story(rng)
    task = rng.choices(OTHER_LIST, OTHER_WEIGHTS)[0]
    question, answer = task(rng)
    return raw_segments([(question, join_raw(question, answer))])


def document(rng):
    """One document of the training mixture (mostly short ones)."""
    kind = rng.random()
    if kind < 0.40:
        return raw_arithmetic(rng)
    if kind < 0.72:
        return chat_segments(opening(rng) + turn(*arithmetic(rng)))
    if kind < 0.88:
        return other_chat(rng)
    if kind < 0.92:
        return other_raw(rng)
    if kind < 0.95:
        return chat_segments(*tool_conversation(rng))
    return chat_document(rng, rng.randint(2, 6))


def long_document(rng):
    """A conversation of up to about 2,000 tokens."""
    return chat_document(rng, rng.randint(10, 45))


def main():
    """Prints sample documents, answers between brackets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", type=int, default=20)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    for _ in range(args.documents):
        print("".join(f"[{text}]" if answer else text for text, answer in document(rng)))


if __name__ == "__main__":
    main()
