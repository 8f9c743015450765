"""Our own template snippets, by topic: expressions, statements, white space, refusals."""

CONTEXT = {
    "n": 7, "zero": 0, "neg": -3, "big": 9007199254740993, "f": 2.5, "tiny": 1e-7, "huge": 1e22,
    "yes": True, "no": False, "nothing": None, "empty": "", "s": "Hello World", "u": "Zürich 你好 😀",
    "padded": "  \t x y \n", "lines": "one\ntwo\r\n\nthree", "html": "<b>\"A\" & 'B'</b>",
    "list": [3, 1, 2], "words": ["banana", "Apple", "cherry"], "mixed": [1, "a", None, 2.5, True],
    "none_list": [], "nested": [[1, 2], [3, [4, 5]]],
    "d": {"a": 1, "b": {"c": [10, 20]}, "items": "shadow", "x y": 2}, "empty_dict": {},
    "users": [
        {"name": "Ann", "age": 31, "city": "Oslo", "tags": ["a"]},
        {"name": "bob", "age": 25, "city": "rome", "tags": []},
        {"name": "Cid", "age": 31, "city": "Rome", "active": True},
    ],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ],
}

LITERALS = r"""
1 | 0 | 007 | 1_000_000 | 0x1F | 0xff_ff | 0o17 | 0b1010 | 00 | 0_0 | 9223372036854775807
1.5 | 1e3 | 1.5e-3 | 1_0.2_5 | 1E5 | 10.0e+2 | 0.1 | 1e16 | 1e15 | 123456789012345680.0 | 1e-4 | 1e-5
1e100 | 1.7976931348623157e308 | 5e-324 | 0.30000000000000004 | 100.0 | 12345.678 | 2.0 | 1e22 | 1e21
'a' | "a" | 'it\'s' | "q\"q" | 'a' 'b' "c" | '\n\t\\' | '\x41\u00e9\U0001f600' | '\101\0601' | 'a\
b' | '\q' | '\é' | '' | 'é' | '\a\b\f\v' ~ 'x'
true | True | false | False | none | None | [] | [1, 2] | [1, 2,] | () | (1,) | (1, 2) | 1, 2 | 1,
{} | {'a': 1} | {'a': 1, 2: 'b', none: [1]} | {'a': {'b': {}}} | {'a': 1,} | {1: 'x', true: 'y'} | [[], ()]
[true, none, 1.5, 'x', "it's", 'q"q', 'both\'"'] | ['\n\r\t\\\x00\x7f\xa0\u200b é 😀 \ue000']
"""

OPERATORS = r"""
1 + 2 | 1 - 2 | 2 * 3 | 7 / 2 | 6 / 3 | 7 // 2 | -7 // 2 | 7 // -2 | 7 % 3 | -7 % 3 | 7 % -3 | 2 ** 10
2 ** -1 | 2 ** 0.5 | 0 ** 0 | -2 ** 2 | (-2) ** 2 | 2 ** 3 ** 2 | 1.5 + 1 | 3 * 1.5 | 7.5 // 2 | -7.5 // 2
-7.5 % 2 | 7.5 % -2 | 5 % 2.5 | 1 / 3 | 10 / 4 | 1e308 * 10 | -5 + 3 | - - 5 | +5 | -true | +true | true + true
true * 3 | 5 // true | 'a' + 'b' | 'ab' * 3 | 3 * 'ab' | 'ab' * 0 | 'ab' * -1 | [1] + [2] | [1, 2] * 2 | (1,) + (2,) | (1,) * 2
[] * 5 | 'a' ~ 1 ~ none ~ true ~ 1.5 | 1 ~ 2 | 'x' ~ missing ~ 'y' | 'x' ~ [1, 'a'] | 2 + 3 * 4 - 5 | (2 + 3) * 4
1 - 2 - 3 | 2 * 3 % 4 | 100 / 10 / 2 | 1 + 2 ~ 3 + 4 | 'a' ~ 'b' + 'c' | -n | -f | - 3 | 2 - -3 | n-1 | n -1
9223372036854775807 + 0 | -9223372036854775807 - 1 | 10 ** 18 | big | big + 1
1 == 1 | 1 == 1.0 | 1 == true | 0 == false | 'a' == 'a' | 'a' == 1 | none == none | [1] == [1.0] | (1,) == [1]
{'a': 1} == {'a': 1.0} | {'a': 1} == {} | {'a': 1, 'b': 2} == {'b': 2, 'a': 1} | missing == missing | missing == none | missing != none
1 != 2 | 1 < 2 | 2 <= 2 | 'a' < 'b' | 'B' < 'a' | 'é' > 'z' | 1 < 1.5 | [1, 2] < [1, 3] | [1] < [1, 0] | (1, 'a') < (1, 'b')
1 < 2 < 3 | 1 < 3 < 2 | 1 == 1 != 2 | 3 > 2 >= 2 | 9007199254740993 == 9007199254740992.0 | big > 9007199254740992.0
1 in [1, 2] | '1' in [1] | 'a' in 'abc' | '' in 'abc' | 'd' not in 'abc' | 'a' in d | 'zz' in d | 10 in d.b.c | none in mixed
1 in (1,) | 1 in {'a': 1} | 3 in range(5) | 5 in range(0, 10, 2) | 'x' in missing | [1] in [[1]] | not 1 in [2] | 1 not in [2]
true and 1 | 0 and 1 | '' or 'x' | 0 or none | 1 and 2 and 3 | 0 or '' or 5 | not true | not '' | not not 1 | 1 or missing.x
none and none.x | not 1 == 2 | true and not false | 1 if true else 2 | 1 if false else 2 | 1 if false | 'a' if n > 5 else 'b' if n > 3 else 'c'
(1 if yes) ~ (2 if no) | [1 if no] | 'x' if not nothing | 1 if true if false else 3 | (1, 2) == (1, 2) | [1, [2, {'a': (3,)}]] == [1, [2, {'a': (3,)}]]
missing | missing ~ 'x' | missing or 'default' | missing and 1 | not missing | [missing] | {'a': missing} | missing is defined
'%s' % 1 | '%s %s' % (1, 'b') | '%d' % 3.9 | '%5d|%-5d|%05d' % (1, 2, 3) | '%.2f' % 3.14159 | '%x %X %o' % (255, 255, 8) | '%%' % () | '%r' % 'a'
'%(a)s-%(b)d' % {'a': 1, 'b': 2} | '%e' % 12345.678 | '%g' % 0.00001234 | '%g' % 123456789 | '%G' % 1e-10 | '%+d % d' % (1, 2) | '%c%c' % (65, 'b') | '%#x' % 255
'%.3s' % 'abcdef' | '%10.3s|' % 'abcdef' | '%-10s|' % 'ab' | '%*d' % (5, 1) | '%.*f' % (2, 1.23456) | '%a' % 'é' | '%5.1f|' % 2.25 | '%i' % true | '%s' % none | '%.0f' % 0.5 | '%.0f' % 1.5 | '%.0f' % 2.5
'%s' % [1, 'a'] | '%s' % missing | 'abc' % [] | '%.5d' % 42 | '%+.1e' % 0 | '%f' % 1e300 * 0 ~ 'x' | '%06.2f' % -1.5 | '%s' % ((1, 2),)
"""

ACCESS = r"""
d.a | d['a'] | d.b.c | d.b.c[0] | d.b.c.1 | d['b']['c'][-1] | d.missing | d['missing'] | d['x y'] | d['items']
s[0] | s[-1] | s[100] | u[7] | u[-1] | list[0] | list[-1] | list[5] | list['0'] | list[true] | (1, 2)[1] | 'abc'[1] | nested[1][1][0] | nested.1.1.0
s[1:3] | s[:5] | s[6:] | s[::-1] | s[::2] | s[-5:] | s[:-6] | s[10:2] | s[3:1:-1] | s[100:] | s[-100:3] | u[::-1] | u[1:9] | u[7:9] | u[-2:] | u[::3] | u[8:6:-1] | s[none:none] | s[true:]
list[1:] | list[::-1] | list[:2] | list[-2:] | list[::2] | list[5:] | list[2:0:-1] | (1, 2, 3)[1:] | [1, 2, 3, 4, 5][-1:-4:-2] | range(10)[2:8:2]|list | range(5)[-1] | range(5)[::-1]|list | range(10)[3:] | ''[::-1]
list[-100:100] | [1, 2, 3][1:1] | [1, 2, 3][:-1] | [1, 2, 3][-1:0:-1] | messages[1:]|length | messages[::-1][0].role | messages[0]['content'] | (messages | last).content | messages[-1]['role']
nothing.x | nothing['x'] | n.x | n['x'] | f.x | s.nope | s['nope'] | list.nope | yes.x | d.__class__ | d['__class__'] | s.__len__ | ''.__class__.__mro__ is defined | list.append | list.append is defined | d.update is defined | d.pop is defined
missing is undefined | d.nope.__class__ is defined if false else 'n' | 'x'.upper is callable | list.index is callable | d.get('a') | d.get('zz') | d.get('zz', 5) | d.get('zz', none) | d.keys() | d.values() | d.keys()|list | d.values()|list|length
d.items()|list|first | d.b.items() | {'a': 1}.items() | {'a': 1}.keys() | {'a': 1}.values() | {}.items() | d.copy() == d | {'a': 1}.items()|length | 'a' in d.keys() | ('a', 1) in d.items() | 1 in d.values()
list.index(1) | list.count(1) | (1, 1).count(1) | (1, 2).index(2) | list.copy() | [1, 2, 1].index(1, 1) | range(5).count(3) | range(3).start | range(3).stop | range(1, 9, 3).step | 1.5.is_integer() | (2.0).is_integer()
range(3) | range(1, 4) | range(0, 10, 3) | range(3)|list | range(3, 0, -1)|list | range(0)|list | range(-3)|list | range(3)|length | range(3) == range(0, 3) | range(0) == range(5, 5)
dict(a=1, b=2) | dict() | dict({'x': 1}, y=2) | dict([('a', 1), ['b', 2]]) | dict(d.b) | namespace(a=1).a | namespace() | namespace(a=1, b='x') | namespace({'k': 5}).k | namespace(a=1)['a'] | namespace(a=1).zz | namespace(a=1).zz is defined
cycler(1, 2).next() | cycler('a').current | joiner() is callable | cycler(1) is callable | namespace is callable | range is callable | strftime_now is callable
""".replace("1.5.is_integer() | ", "")

METHODS = r"""
s.upper() | s.lower() | s.title() | s.capitalize() | s.swapcase() | u.upper() | u.lower() | u.title() | 'straße'.upper() | 'ΑΣ Σ'.lower() | 'ǆ'.title() | 'İ'.lower() | 'ŉ'.upper() | "they're bill's".title() | 'ﬁx'.capitalize() | 'ΌΣΟΣ.'.lower()
padded.strip() | padded.lstrip() | padded.rstrip() | 'xxaxx'.strip('x') | 'xyaxy'.lstrip('xy') | 'abc'.rstrip('cb') | 'abc'.strip('') | '\u3000a\u00a0'.strip() | 'éaé'.strip('é') | 'aaa'.strip('a') | s.strip(none)
'a,b,c'.split(',') | 'a b  c'.split() | ' a b '.split() | ' a b '.split(' ') | 'a,b,c'.split(',', 1) | 'a b c'.split(none, 1) | 'a b c '.split(maxsplit=1) | ''.split() | ''.split(',') | 'abc'.split('abc') | 'a,b,c'.rsplit(',', 1) | ' a b c '.rsplit(none, 1) | 'a  b'.rsplit() | 'aXbXc'.split(sep='X') | 'a--b-c'.split('--')
'a\nb\r\nc\rd'.splitlines() | 'a\n'.splitlines() | 'a\n\nb'.splitlines(true) | ''.splitlines() | 'a\u2028b\x0bc\x1dd'.splitlines() | lines.splitlines() | 'x'.splitlines(keepends=true)
'a-b-c'.partition('-') | 'a-b-c'.rpartition('-') | 'abc'.partition('x') | 'abc'.rpartition('x') | ','.join(['a', 'b']) | ''.join([]) | '-'.join('abc') | ', '.join(words) | '-'.join({'a': 1, 'b': 2}) | ','.join(words|map('upper'))
s.find('o') | s.find('o', 5) | s.find('z') | s.rfind('o') | s.find('o', -4) | u.find('好') | u.rfind('h') | s.index('W') | s.rindex('l') | s.count('o') | s.count('') | s.count('l', 4) | s.find('') | s.find('', 100) | s.find('', 11) | 'aaa'.count('aa') | s.find('H', 0, 1) | s.find('o', 0, -7) | s.find('o', none, none)
s.startswith('He') | s.startswith('W', 6) | s.endswith('ld') | s.startswith(('x', 'H')) | s.endswith(()) | s.startswith('') | s.endswith('', 20) | s.startswith('e', 1, 3) | u.endswith('😀') | s.endswith('lo', 0, 5)
s.replace('o', '0') | s.replace('o', '0', 1) | s.replace('', '-') | s.replace('x', 'y') | s.replace('', '-', 3) | ''.replace('', 'x') | 'aaa'.replace('aa', 'b') | u.replace('你', '') | s.replace('l', '', 0) | 'abc'.replace('', '-', 1) | 'é'.replace('', '.')
'ab'.center(7) | 'ab'.center(6, '*') | 'abc'.center(6) | 'ab'.ljust(5) | 'ab'.rjust(5, '.') | '42'.zfill(5) | '-42'.zfill(5) | '+4'.zfill(1) | ''.zfill(3) | 'é'.center(4, 'ü') | 'abc'.ljust(2) | 'a\tb'.expandtabs(4) | '\t'.expandtabs() | 'ab\n\tx'.expandtabs(tabsize=3)
'12'.isdigit() | '1a'.isdigit() | ''.isdigit() | '²'.isdigit() | '²'.isdecimal() | '½'.isnumeric() | 'ab'.isalpha() | 'é'.isalpha() | 'a1'.isalnum() | ' '.isspace() | ''.isspace() | 'AB'.isupper() | 'Ab'.isupper() | 'ab1'.islower() | '1'.islower() | 'Ab Cd'.istitle() | 'AB'.istitle() | 'a_1'.isidentifier() | '1a'.isidentifier() | 'a\n'.isprintable() | ''.isprintable() | 'é'.isascii() | 'a'.isascii()
'prefix-x'.removeprefix('prefix-') | 'x.py'.removesuffix('.py') | 'abc'.removeprefix('x') | 'abc'.removesuffix('') | 'aa'.removeprefix('aaa')
'{}'.format(1) | '{} {}'.format('a', none) | '{0}{1}{0}'.format(1, 2) | '{a}-{b}'.format(a=1, b='x') | '{{}}'.format() | '{:5}|'.format('a') | '{:>5}|'.format('a') | '{:^5}|'.format('a') | '{:*<5}|'.format('a') | '{:5}|'.format(1) | '{:<5}|'.format(1) | '{:05d}'.format(42) | '{:+}'.format(3) | '{:,}'.format(1234567) | '{:_}'.format(1234567)
'{:.2f}'.format(3.14159) | '{:8.3f}|'.format(3.14159) | '{:e}'.format(12345.678) | '{:g}'.format(1e10) | '{:%}'.format(0.25) | '{:.1%}'.format(0.256) | '{:x} {:X} {:o} {:b}'.format(255, 255, 8, 5) | '{:#x} {:#b}'.format(255, 5) | '{:c}'.format(97) | '{:n}'.format(5) | '{:.3}'.format('abcdef') | '{!r}'.format('a') | '{!s:>4}'.format(1) | '{!a}'.format('é')
'{:.3}'.format(3.14159) | '{:.3}'.format(100.0) | '{:.3}'.format(1000.0) | '{:.1}'.format(0.05) | '{:}'.format(1.0) | '{:5}'.format(true) | '{}'.format(true) | '{:d}'.format(true) | '{0.a}'.format({'a': 1}) | '{0[a]}'.format({'a': 1}) | '{0[1]}'.format([1, 2]) | '{a.b}'.format(a=namespace(b=2)) | '{:{}}|'.format('a', 4) | '{:{w}.{p}f}'.format(3.14159, w=8, p=2)
'{:010.2f}'.format(-3.14159) | '{:+,.2f}'.format(12345.678) | '{:=+8}'.format(5) | '{:x<8}'.format(5) | '{:08,}'.format(1234) | '{}'.format([1, 'a']) | '{}'.format(missing) | '{a}'.format_map({'a': 3}) | '{:é^7}'.format('ab') | '{:05}'.format('ab') | '{:,.0f}'.format(1234567.5) | '{: }'.format(7) | '{:-}'.format(-7)
s.split()|length | s.split(' ')[1].upper() | s.lower().replace('l', 'L').split('L') | 'a'.join(['x', 'y']).upper() | (s ~ '!').lower() | 'x'.upper()|lower
"""

FILTERS = r"""
-5|abs | (-2.5)|abs | true|abs | 'abc'|capitalize | 'ABC dEF'|capitalize | 5|capitalize | 'ab'|center(6) ~ '|' | 'ab'|center|length | s|count | list|length | u|length | d|length | ''|length | range(4)|length
missing|default('x') | missing|default | nothing|default('x') | nothing|default('x', true) | ''|d('e', true) | ''|d('e') | 0|default(5, boolean=true) | missing|default(default_value='q') | d.zz|default(1) | missing|d([])|length
d|dictsort|length | {'b': 1, 'A': 2, 'c': 0}|dictsort | {'b': 1, 'A': 2}|dictsort(true) | {'b': 1, 'a': 2}|dictsort(false, 'value') | {'b': 1, 'a': 2}|dictsort(reverse=true) | {'b': 1, 'a': 2}|dictsort(by='value', reverse=true) | {}|dictsort
html|e | html|escape | html|e|e | html|forceescape | html|e|forceescape | html|safe | ('<b>'|safe) + '<i>' | '<i>' + ('<b>'|safe) | ('<b>'|safe) ~ '<i>' | ['<'|safe] | '<'|safe is escaped | '<' is escaped | 5|e | none|e | ('<'|e)|upper | ('<%s>'|safe) % '<' | ('<{}>'|safe).format('<') | ('<'|safe).join(['<', '>'|safe]) | ('<'|safe) * 2 | ('a<'|safe)[1:] | ('<'|safe)|string ~ '>'
list|first | list|last | 'abc'|first | 'abc'|last | ''|first | []|first | []|last is defined | d|first | d|last | range(3)|last | missing|first | u|last | {'a': 1}.items()|first | {'a': 1, 'b': 2}.values()|last | list|first|string
'3.5'|float | 'x'|float | 'x'|float(1.5) | 5|float | ' 2 '|float | none|float | true|float | '1e3'|float | 'inf'|float | '-inf'|float | 'nan'|float | '1_0.5'|float | '1__0'|float | '.5'|float | '5.'|float | '+1.5'|float | ''|float | [1]|float(2)
'%s and %s'|format('a', 'b') | '%(x)s'|format(x=5) | '%d%%'|format(50) | 'abc'|format | '%.3f'|format(2) | '%s'|format(missing)
users|groupby('age')|map(attribute='grouper')|list | users|groupby('age')|map('last')|map('map', attribute='name')|map('list')|list | users|groupby('city')|map('first')|list | users|groupby('city', case_sensitive=true)|map('first')|list | users|groupby('active', default=false)|map('first')|list | (users|groupby('age'))[0].list[0].name | (users|groupby('age'))[0].grouper | [[1, 'a'], [0, 'b'], [1, 'c']]|groupby(0)
'a\nb'|indent | 'a\nb'|indent(2) | 'a\nb'|indent(2, true) | 'a\n\nb'|indent(2) | 'a\n\nb'|indent(2, blank=true) | 'a\nb'|indent('> ') | 'a\nb'|indent(width=1, first=true) | ''|indent | 'a\n'|indent | 'a\r\nb'|indent(1) | '\n'|indent(2, true, true) | lines|indent(3) | 'a'|indent(-2, true) | 'x\u2028y'|indent(1)
'42'|int | '42.9'|int | 'x'|int | 'x'|int(5) | 3.9|int | -3.9|int | true|int | none|int | '0x1F'|int(0, 16) | '1F'|int(base=16) | '0b11'|int(0, 2) | '0o17'|int(0, 0) | ' 12 '|int | '1_000'|int | '1__0'|int | '_1'|int | '-5'|int | '+5'|int | ''|int | 'nan'|int | 'inf'|int(3) | '1e3'|int | '012'|int | '012'|int(7, 0) | [1]|int | 1e18|int | '9' * 5|int | '0_7'|int(5, 0) | 'z'|int(0, 36) | '12'|int(9, 1)
d.b|items|list | {}|items|list | missing|items|list | {'a': 1}|items|first
list|join | list|join(', ') | words|join('-') | mixed|join('|') | 'abc'|join('.') | users|join(', ', attribute='name') | []|join('x') | missing|join | d|join(',') | [[1], 'a', none]|join(';') | users|join(d='+', attribute='age') | range(3)|join(1) | {'a': 1}.items()|join
'abc'|list | d|list | range(3)|list | u|list | (1, 2)|list | missing|list | {'a': 1}.values()|list | ''|list | s|list|length | 'ABC'|lower | 5|lower | 'É'|lower | none|upper | 'straße'|upper
words|map('upper')|list | users|map(attribute='name')|list | users|map(attribute='zz', default='-')|list | users|map(attribute='tags')|list|length | list|map('string')|join('+') | ['1', 'x']|map('int', 9)|list | ['1', 'x']|map('int', default=8)|list | nested|map('first')|list | nested|map(attribute=0)|list | nested|map(attribute='1')|list | []|map('nope')|list | missing|map('upper')|list | words|map('replace', 'a', 'o')|list | users|map(attribute='tags.0')|list | users|map(attribute='active', default=false)|list | [d]|map(attribute='b.c.1')|list
list|max | list|min | words|max | words|min | words|max(case_sensitive=true) | users|max(attribute='age')|attr('zz') is defined | (users|min(attribute='age')).name | []|max | []|min is defined | 'bca'|max | [1, 2.5, true]|max | [[1, 2], [1, 1]]|min | [none]|max
list|reject('odd')|list | list|reject|list | mixed|select('string')|list | list|select('gt', 1)|list | list|select('>', 1)|list | mixed|select|list | mixed|reject('none')|list | list|select('divisibleby', 2)|list | list|select('in', [1, 2])|list | []|select('nope')|list | missing|select|list | 'abc'|select('in', 'ac')|join
users|selectattr('active')|map(attribute='name')|list | users|selectattr('age', 'gt', 30)|map(attribute='name')|list | users|rejectattr('age', 'equalto', 31)|map(attribute='name')|list | users|rejectattr('active')|list|length | users|selectattr('active', 'defined')|list|length | users|selectattr('city', 'eq', 'Oslo')|first|attr('zz') is defined | messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list | messages|rejectattr('role', 'in', ['system', 'assistant'])|list|length | users|selectattr('tags')|list|length | nested|selectattr(0, 'eq', 1)|list | users|selectattr('tags.0', 'eq', 'a')|list|length
s|replace('o', '0') | s|replace('o', '0', 1) | s|replace(old='l', new='L') | 5|replace(5, 6) | none|replace('None', 'x') | s|replace('', '.') | missing|replace('a', 'b') | 'a.b'|replace('.', '') | s|replace('o', 0) | s|replace('o', '0', none) | html|safe|replace('<', '[')
s|reverse | list|reverse|list | d|reverse|list | range(3)|reverse|list | u|reverse | {'a': 1, 'b': 2}.items()|reverse|list | list|map('string')|reverse | missing|reverse|list | (1, 2)|reverse|first | list|reverse|join(',')
42.55|round | 42.55|round(1) | 42.55|round(1, 'floor') | 42.55|round(0, 'ceil') | 2.5|round | 3.5|round | -2.5|round | 2.675|round(2) | 1234|round(-2) | 1250|round(-2) | 1350|round(-2) | 1234.5|round(-2) | 5|round | true|round | 5|round(2, 'ceil') | 1e300|round(2) | 0.1|round(20) | 15|round(-1) | -15|round(-1) | 25|round(-1) | 42.55|round|int | 1.005|round(2) | 55.55|round(-1) | 1e16|round(1) | 0.5|round | 1.5|round | 6.0|round(-1) | 4.0|round(-1) | 5.0|round(-1) | 2.345|round(2, 'ceil')
[1, 2, 3, 4, 5]|slice(2)|list | [1, 2, 3, 4, 5]|slice(3, 0)|list | []|slice(2)|list | [1, 2, 3, 4]|slice(2, 9)|list | [1, 2, 3, 4, 5]|batch(2)|list | [1, 2, 3]|batch(2, 'x')|list | []|batch(2)|list | 'abcde'|batch(2)|map('join')|list | [1, 2]|batch(0)|list | [1, 2]|slice(5)|list | [1, 2, 3]|batch(linecount=2, fill_with=0)|list
list|sort | words|sort | words|sort(case_sensitive=true) | words|sort(true) | words|sort(reverse=true) | users|sort(attribute='age')|map(attribute='name')|list | users|sort(attribute='age,name')|map(attribute='name')|list | users|sort(attribute='age', reverse=true)|map(attribute='name')|list | [none, none]|sort | [[2], [1]]|sort | [true, 0, 2.5, -1]|sort | 'bca'|sort | d|sort | []|sort | missing|sort | [3, 1, 2]|sort|first | ['é', 'z', 'E']|sort | nested|sort(attribute=0) | [('b', 1), ('a', 2)]|sort
5|string | none|string | [1]|string | 'x'|string | 1.0|string | true|string + 'x' | d.b|string | list|sum | list|sum(start=10) | users|sum(attribute='age') | []|sum | [[1], [2]]|sum(start=[]) | [1.5, 2]|sum | [true, true]|sum
"hello world-foo (bar) [baz] {qux} <z> it's"|title | 'ABC'|title | 'élan VITAL'|title | ''|title | 5|title | '  a  b'|title
{'a': [1, 2.5, none, true, 'é"\\/\n']}|tojson | 'x'|tojson | {'a': {'b': []}, 'c': {}}|tojson(indent=2) | [1, [2, {'k': 3}]]|tojson(indent=4) | 'é😀\u2028'|tojson(ensure_ascii=true) | {'b': 1, 'a': 2}|tojson(sort_keys=true) | {1: 2, none: 3, true: 4, 1.5: 5}|tojson | [1, 2]|tojson(separators=(',', ':')) | {'a': 1}|tojson(separators=[',', ':']) | html|tojson | [1, [2]]|tojson(indent=0) | [1]|tojson(indent='\t') | (1, 2)|tojson | []|tojson(indent=2) | 1e100|tojson | 1.0|tojson | '\x00\x1f\x7f\b\f'|tojson | '\x7fé'|tojson(true) | {'a': 1}|tojson(indent=2, separators=(', ', ' = ')) | d|tojson | messages|tojson(indent=1) | {'a': ('<'|safe)}|tojson | huge|tojson | tiny|tojson | [1]|tojson(indent=none) | big|tojson
padded|trim | 'xax'|trim('x') | 5|trim | none|trim | 'abc'|trim(chars='ac') | padded|trim(none) | missing|trim | '\n a \n'|trim ~ '|' | u|trim('Z😀 ')
'foo bar baz qux'|truncate(9) | 'foo bar baz qux'|truncate(9, true) | 'foo bar baz qux'|truncate(11) | 'foo bar baz qux'|truncate(11, false, '...', 0) | 'abc'|truncate(3) | 'foobarbazqux'|truncate(5, leeway=0) | 'foo bar baz qux quux'|truncate(9, end='…') | u|truncate(5, true, '', 0) | missing|truncate
[1, 2, 1, 'a', 'A', 'b']|unique|list | ['b', 'A', 'a', 'B']|unique|list | ['b', 'A', 'a', 'B']|unique(true)|list | users|unique(attribute='age')|map(attribute='name')|list | [1, 1.0, true]|unique|list | 'abca'|unique|join | [none, none]|unique|list
'a b/c?d=é&'|urlencode | {'a b': 'c d', 'x': '/'}|urlencode | [('a', 1), ('b', 2)]|urlencode | 5|urlencode | 'hello world, foo-bar'|wordcount | ''|wordcount | 'a_b c1 é'|wordcount | {'a': 1, 'b': none, 'c': '<'}|xmlattr | {'a': 1}|xmlattr(false) | 1|filesizeformat | 999|filesizeformat | 1000|filesizeformat | 123456789|filesizeformat | 1024|filesizeformat(true) | 1048576|filesizeformat(binary=true) | 1e30|filesizeformat
d|attr('a') is defined | d|attr('items') is callable | s|attr('upper') is callable | namespace(q=5)|attr('q') | s|attr('zz') is defined | d|attr('__class__') is defined
list|map('string')|select('in', ['1', '2'])|join('/')|upper|length | -5|abs|string ~ '!' | (-5)|abs + 1 | 'a'|upper ~ 'b'|upper | not list|length == 3 | list|length > 2 and words|first == 'banana' | 1 + '2'|int * 3 | users[0].tags|length | -list|first | 2 ** list|first | (list|sort)[0] | list|sort|first + 1
"""

TESTS = r"""
1 is odd | 2 is even | -1 is odd | 2.0 is even | true is odd | 10 is divisibleby 5 | 10 is divisibleby(3) | 7.5 is divisibleby 2.5 | n is defined | missing is defined | missing is undefined | n is not undefined | nothing is none | nothing is not none | n is none
'a' is string | 1 is string | 1 is number | 1.5 is number | true is number | 'a' is number | 1 is integer | true is integer | 1.0 is integer | 1.5 is float | 1 is float | true is boolean | 1 is boolean | true is true | 1 is true | false is false | 0 is false
d is mapping | list is mapping | namespace() is mapping | list is sequence | 'a' is sequence | d is sequence | 5 is sequence | missing is sequence | range(2) is sequence | {}.keys() is sequence | list is iterable | 5 is iterable | missing is iterable | 'a' is iterable | none is iterable | d is iterable | {}.items() is iterable | list|map('string') is iterable
range is callable | n is callable | missing is callable | 'a'.upper is callable | namespace() is callable | 'abc' is lower | 'ABC' is upper | 'Abc' is lower | '1' is lower | 5 is lower | none is upper | '' is lower
1 is eq 1 | 1 is eq(1.0) | 1 is ne 2 | 1 is lt 2 | 2 is le 2 | 3 is gt 2 | 2 is ge 3 | 1 is equalto 1 | 1 is lessthan 2 | 3 is greaterthan 2 | 'a' is in 'abc' | 1 is in [1, 2] | 3 is not in [1, 2] | 'a' is in d | true is sameas true | 1 is sameas true | none is sameas none | list is sameas list | list is sameas [3, 1, 2]
'upper' is filter | 'nope' is filter | 'odd' is test | 'nope' is test | 5 is filter | n is defined and n is number | n is string or n is number | not n is string | n is not string and n > 3 | (n is odd) == true | n is odd == true | 1 is odd is defined if false else 'z' | n is number ~ 'x' | d.a is defined and d.a == 1 | d.zz is defined | d.b.c is iterable and d.b.c is not string and d.b.c is not mapping | n is divisibleby 7 if true else 0 | [1 is odd, 2 is odd] | 'x' if n is odd else 'y' | messages[0].role is eq 'system' | -1 is lt 0 | 5 is divisibleby list[0] | 'a' is in ['a'] and 'b' is not in ['a']
"""

STATEMENTS = [
    # if
    "{% if n %}A{% endif %}", "{% if zero %}A{% else %}B{% endif %}",
    "{% if zero %}A{% elif n == 7 %}B{% elif true %}C{% else %}D{% endif %}",
    "{% if a is defined %}A{% else %}{% if n %}B{% endif %}C{% endif %}",
    "{% if n: %}A{% endif %}", "{% if n, %}tuple{% endif %}", "{% if [] %}A{% else %}B{% endif %}",
    "{% if 1 %}{% if 0 %}x{% else %}y{% endif %}{% else %}z{% endif %}",
    # for
    "{% for x in list %}{{ x }},{% endfor %}", "{% for x in [] %}A{% else %}none{% endfor %}",
    "{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
    "{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}",
    "{% for x in list %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for x in [1,1,2,2,3] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in [1,1,2] %}{% if loop.changed(x, 'a') %}{{ x }}{% endif %}{% endfor %}",
    "{% for x in range(5) %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }};{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }};{% endfor %}", "{% for k, v in d.b|items %}{{ k }}{{ v }}{% endfor %}",
    "{% for (a, b) in [(1, 2), [3, 4]] %}{{ a }}-{{ b }};{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in ['xy', 'zw'] %}{{ a }}.{{ b }};{% endfor %}", "{% for a, in [(1,)] %}{{ a }}{% endfor %}",
    "{% for x in list if x > 1 %}{{ x }}{{ loop.index }}/{{ loop.length }};{% endfor %}",
    "{% for x in list if x > 5 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.nextitem }};{% endfor %}",
    "{% for k, v in d.items() if v is number %}{{ k }}{{ loop.previtem }};{% endfor %}",
    "{% for a, (b, c) in [(1, [2, 3]), [4, (5, 6)]] if b %}{{ loop.previtem }}{{ c }};{% endfor %}", "{{ d[([],)] }}{{ d[[]] }}{{ d[(1, ({},))] }}",
    "{% for x in 'héy' %}[{{ x }}]{% endfor %}", "{% for x in missing %}A{% else %}B{% endfor %}",
    "{% for x in list %}{% for y in words %}{{ loop.index }}{{ y[0] }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in list %}{% set outer = loop %}{% for y in [1,2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in list|map('string') %}{{ x }}{{ loop.length }}{{ loop.last }};{% endfor %}",
    "{% set g = list|map('string') %}{% for x in g %}{{ x }}{% endfor %}|{% for x in g %}{{ x }}{% else %}spent{% endfor %}",
    "{% set g = list|select %}{{ g|first }}{{ g|first }}{{ g|list }}{{ g|list }}",
    "{% for x in list %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1] %}{% continue %}{% else %}E{% endfor %}", "{% for x in [1,2] %}{% break %}{% else %}E{% endfor %}",
    "{% for x in [1,2] %}{% if x == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}done",
    "{% for x in list %}{% for y in list %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %}-{% endfor %}",
    "{% for i in range(3) %}{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}",
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 1) %}bad{% else %}ok{% endif %}{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in (1, 2) %}{{ x }}{% endfor %}",
    "{% for x in list %}{{ loop }}{% endfor %}", "{% for x in [4] %}{{ loop['index'] }}{{ loop.nope is defined }}{% endfor %}",
    "{% for x in list %}{{ loop|length }}{% endfor %}", "{{ loop is defined }}{% for x in [1] %}{{ loop is defined }}{% endfor %}{{ loop is defined }}",
    "{% for x in [1] if loop is defined %}{{ x }}{% else %}E{% endfor %}",
    "{% for a in [1,2] %}{% for x in [1,2,3] if loop.index != x %}{{ x }}{% endfor %};{% endfor %}",
    "{% for x in range(3) %}{% for y in range(x) %}{{ y }}{% else %}-{% endfor %}{% endfor %}",
    # set and scopes
    "{% set x = 1 %}{{ x }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set (a, b) = [1, 2] %}{{ a }}{{ b }}",
    "{% set x = 1, 2 %}{{ x }}", "{% set x %}a{{ n }}b{% endset %}{{ x }}", "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set x | replace('a', 'b') | upper %}a{{ s }}{% endset %}{{ x }}", "{% set x %}{% endset %}[{{ x }}]",
    "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = x + 1 %}{{ x }};{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "{% if false %}{% set n = 1 %}{% endif %}{{ n }}",
    "{% if true %}{% set q = 1 %}{% endif %}{{ q }}", "{% if false %}{% set q = 1 %}{% endif %}[{{ q }}]",
    "{% for i in [1,2] %}{% if loop.first %}{% set q = 5 %}{% endif %}[{{ q }}]{% endfor %}",
    "{% for i in [1] %}{% set n = 5 %}{% endfor %}{{ n }}", "{% for i in [1] %}{% if false %}{% set n = 5 %}{% endif %}{{ n }}{% endfor %}",
    "{% for i in [1,2] %}{% if i == 1 %}{% set n = 5 %}{% endif %}{{ n }};{% endfor %}{{ n }}",
    "{% for i in [1] %}{{ n }}{% set n = 5 %}{{ n }}{% endfor %}{{ n }}",
    "{% set n = n %}{{ n }}", "{% set zz = zz %}[{{ zz }}]", "{% set n = n + 1 %}{{ n }}", "{{ q }}{% set q = 1 %}{{ q }}",
    "{% set ns = namespace(x=1) %}{% for i in list %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b, ns.c = 2, 3 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns }}",
    "{% set ns = namespace(f=false) %}{% for i in list if not ns.f %}{{ i }}{% set ns.f = true %}{% endfor %}",
    "{% set ns = namespace(x='') %}{% set ns.x %}cap{{ n }}{% endset %}{{ ns.x }}",
    "{% set x = 1 %}{% set x = 2 %}{{ x }}", "{% set x %}{% set y = 5 %}{{ y }}{% endset %}{{ x }}[{{ y }}]",
    "{% set y = 1 %}{% set x %}{% set y = 5 %}{{ y }}{% endset %}{{ x }}[{{ y }}]",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}[{{ a }}]", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}[{{ q }}]",
    "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with a, b = (1, 2) %}{{ a }}{{ b }}{% endwith %}",
    "{% with n = n + 1 %}{{ n }}{% with n = n + 1 %}{{ n }}{% endwith %}{% endwith %}{{ n }}",
    "{% for x in list %}{% set x = x * 2 %}{{ x }},{% endfor %}", "{% for x in list %}{% endfor %}[{{ x }}]",
    "{% for x in [1] %}{% set y = 1 %}{% endfor %}[{{ y }}]", "{% set messages = messages[1:] %}{{ messages|length }}",
    "{% set loop_messages = messages %}{% for m in loop_messages %}{% set content = m.content %}{{ content }}{% endfor %}[{{ content }}]",
    "{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ sys }}{{ rest|length }}",
    "{% set a = [] %}{% for x in list %}{% set a = a + [x] %}{% endfor %}{{ a }}",
    "{% set ns = namespace(a=[]) %}{% for x in list %}{% set ns.a = ns.a + [x] %}{% endfor %}{{ ns.a }}",
    "{% filter upper %}abc{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aXa{% endfilter %}",
    "{% filter indent(2, true) %}a\nb{% endfilter %}", "{% set q = 1 %}{% filter upper %}{% set q = 2 %}{{ q }}{% endfilter %}{{ q }}",
    "{% filter trim %}  {% for x in list %} {{ x }} {% endfor %}  {% endfilter %}|",
    "{% print 1, 'a', n %}", "{% do list %}x", "{% generation %}a{{ n }}{% endgeneration %}b",
    "{% for m in messages %}{% generation %}{{ loop.index }}{{ m.role[0] }}{% endgeneration %}{% endfor %}",
    "{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}[{{ q }}]",
    # macros
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=5, a=4) }}{{ f() }}",
    "{% macro f(a, b=a) %}[{{ a }}{{ b }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}", "{% macro f() %}{{ varargs }}{% endmacro %}{{ f(1, 2) }}{{ f() }}",
    "{% macro f(a) %}{{ kwargs }}{{ varargs }}{% endmacro %}{{ f(1, 2, b=3) }}", "{% macro f(x) %}{{ x is defined }}{% endmacro %}{{ f() }}{{ f(none) }}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}body{{ n }}{% endcall %}",
    "{% macro f() %}{{ caller(1, b=2) }}{% endmacro %}{% call(a, b) f() %}{{ a }}-{{ b }}{% endcall %}",
    "{% macro f() %}{% if caller %}{{ caller() }}{% else %}none{% endif %}{% endmacro %}{{ f() }}{% call f() %}x{% endcall %}",
    "{% macro f(x) %}{{ x }}{% if x > 0 %}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(4) }}",
    "{% macro f() %}{{ q }}{% endmacro %}{% set q = 1 %}{{ f() }}{% set q = 2 %}{{ f() }}", "{% macro f() %}{% set n = 1 %}{{ n }}{% endmacro %}{{ f() }}{{ n }}",
    "{{ f is defined }}{% macro f() %}{% endmacro %}{{ f is defined }}{{ f is callable }}{{ f.name }}{{ f.arguments }}",
    "{% macro f(a) %}x{% endmacro %}{{ f }}", "{% macro g(x) %}<{{ x }}>{% endmacro %}{% macro f(x) %}{{ g(x) ~ g(x) }}{% endmacro %}{{ f(1) }}",
    "{% for x in list %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro f(x) %}{{ x }}{% endmacro %}{{ [1,2]|map('string')|map('upper')|list }}{{ f(1)|upper }}",
    "{% macro f() -%}  a  {%- endmacro %}[{{ f() }}]", "{% set m %}{% macro f() %}x{% endmacro %}{{ f() }}{% endset %}{{ m }}",
    "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(**{'a': 3, 'b': 4}) }}{{ f(1, *[2]) }}{{ f(1, **{'b': 2}) }}",
    "{% macro f(items) %}{% for i in items %}{{ i }}{% if i is iterable and i is not string %}{{ f(i) }}{% endif %}{% endfor %}{% endmacro %}{{ f(nested) }}",
    "{% macro f(a='x', b='y') %}{{ a }}{{ b }}{% endmacro %}{{ f(b='z') }}{{ f('q', b='r') }}",
    "{% macro outer() %}{% macro inner() %}i{{ n }}{% endmacro %}[{{ inner() }}]{% endmacro %}{{ outer() }}{{ inner is defined }}",
    "{% macro f(loop) %}{{ loop }}{% endmacro %}{{ f(3) }}", "{% macro f(caller=5) %}{{ caller }}{% endmacro %}{{ f() }}{{ f(6) }}",
    "{% macro list_it(xs, sep=', ') %}{% for x in xs %}{{ x }}{{ sep if not loop.last }}{% endfor %}{% endmacro %}{{ list_it(words) }}|{{ list_it(list, sep='-') }}",
    "{% set j = joiner() %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}", "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.next() }}",
    # output forms
    "{{ 1, 2 }}", "{{ (1) }}", "{{ none }}", "{{ [none, true, 1.0, 'a'] }}", "{{ {'a': [1, {'b': none}]} }}", "{{ '' }}|{{ empty }}|{{ missing }}",
    "{{ d.items }}|{{ list.append }}|{{ d.update }}".replace("{{ d.items }}|", ""),
    # strings inside tags
    "{{ '}}' }}", "{{ '{%' }}", '{{ "%}" }}', "{{ '{{ x }}' }}", "{% if '%}' == '%}' %}ok{% endif %}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {} }}", "{{{'a': 1}.a}}",
    "{# comment {{ x }} {% if %} #}a", "a{#- c -#} b", "{# a #}{# b #}", "{#\nmultiline\n#}\nx", "a {# c #} b", "{#+ c +#}\nx", "{# unbalanced ' quote #}x",
    "{% raw %}{{ x }} {% if %} {# c #}{% endraw %}", "{% raw %}\n a\n{% endraw %}\nb", "a {%- raw -%} {{ x }} {%- endraw -%} b", "  {% raw %} x {% endraw %}  y", "{%- raw %}\n  {% endraw +%}\nb", "x\n  {%+ raw %} a{%+ endraw %}b",
    # chat idioms
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{%- for m in messages %}\n  {%- if m.role == 'user' %}\n    {{- '[U] ' ~ m.content ~ ' ' }}\n  {%- elif m.role == 'assistant' %}\n    {{- m.content }}\n  {%- endif %}\n{%- endfor %}",
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif %}", "{{ bos_token }}{{ eos_token | default('</s>') }}",
    "{{ strftime_now('%Y-%m-%d') }}", "{{ strftime_now('%d %b %Y') }}", "{{ strftime_now('%A, %B %d, %Y %H:%M:%S %p %j %U %W %V %G %u %w %y %C %e %I %l %k %M %%') }}", "{{ strftime_now('%-d %-m %-H %a %h %D %F %T %R %r %c %x %X %Z %z %f') }}", "{{ strftime_now('é%Y') }}",
    "{{ '{\"a\": [1, 2]}' }}", "{% set tools = [{'name': 'f', 'parameters': {'type': 'object'}}] %}{{ tools | tojson(indent=4) }}", "{{ messages | map(attribute='role') | join(',') }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "{%- set ns = namespace(last=-1) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}{{ ns.last }}",
    "{%- set ns = namespace(multi=true, idx=messages|length - 1) %}{%- for m in messages[::-1] %}{%- set i = (messages|length - 1) - loop.index0 %}{%- if ns.multi and m.role == 'user' %}{%- set ns.multi = false %}{%- set ns.idx = i %}{%- endif %}{%- endfor %}{{ ns.idx }}",
    "{{ '<think>a</think>b'.split('</think>')[-1].lstrip('\\n') }}|{{ '<think>\\na\\n</think>b'.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}",
    "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ m.role[0] }}{% endfor %}", "{{ 'x' if tools is defined and tools else 'no tools' }}", "{{ (messages | last)['content'] }}",
    "{%- macro render(v) -%}{%- if v is string -%}\"{{ v }}\"{%- elif v is mapping -%}{ {%- for k, w in v.items() -%}{{ k }}:{{ render(w) }}{%- if not loop.last %}, {% endif -%}{%- endfor -%} }{%- elif v is iterable -%}[{% for w in v %}{{ render(w) }}{{ ',' if not loop.last }}{% endfor %}]{%- else -%}{{ v }}{%- endif -%}{%- endmacro -%}{{ render(d) }}{{ render(nested) }}",
    "", "plain text", "a\n", "a\n\n", "\n", "\r\n", "a\r\nb\rc\n", "{{ 'a\r\nb' }}", "{{ n }}\n", "{{ n }}\n\n", "é你😀", "{", "}}", "%}", "{ {", "a{b}c", "{% if true %}\n  x\n{% endif %}\n",
]

REFUSED = [
    # syntax
    "{{", "{{ ", "{{ 1", "{% if %}", "{% if 1 %}", "{% endif %}", "{% for %}{% endfor %}", "{% for x %}{% endfor %}", "{% for x in %}{% endfor %}", "{% for 1 in x %}{% endfor %}", "{% for x in y %}",
    "{{ 1 + }}", "{{ + }}", "{{ (1 }}", "{{ [1 }}", "{{ {1 }}", "{{ {1: } }}", "{{ 1) }}", "{{ 'abc }}", "{{ a b }}", "{{ a. }}", "{{ a.'b' }}", "{{ a[ }}", "{{ a | }}", "{{ a | 1 }}", "{{ a is }}", "{{ a is 5 }}", "{{ ! }}", "{{ a ? b }}", "{{ a = 1 }}", "{{ @ }}", "{{ $x }}", "{{ a; b }}", "{{ 1 2 }}", "{{ `x` }}",
    "{# x", "{% raw %}x", "{% foo %}", "{% set %}", "{% set x %}", "{% set x = %}", "{% set 1 = 2 %}", "{% set 'a' = 2 %}", "{% set x.y.z = 1 %}", "{% set x[0] = 1 %}", "{% set true = 1 %}", "{% set a, 1 = 2 %}", "{% set [a, b] = 1 %}", "{% macro %}{% endmacro %}", "{% macro f %}{% endmacro %}", "{% macro f(1) %}{% endmacro %}", "{% macro f(a=1, b) %}{% endmacro %}", "{% macro f(a, a) %}{% endmacro %}", "{% macro f() %}",
    "{% call f %}{% endcall %}", "{% call 5 %}{% endcall %}", "{% filter %}{% endfilter %}", "{% filter nope %}{% endfilter %}", "{% with a %}{% endwith %}", "{% with a= %}{% endwith %}", "{% break %}", "{% continue %}", "{% for x in [1] %}{% endfor %}{% break %}", "{% for x in [1] %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}",
    "{{ f(a=1, 2) }}", "{{ f(*a, 1) }}", "{{ f(**a, *b) }}", "{{ f(a=1, a=2) }}", "{{ f(,) }}", "{{ f(1,,2) }}", "{{ x[1:2, 3] }}", "{% if x = 1 %}{% endif %}", "{% else %}", "{% elif x %}", "{% if 1 %}{% else %}{% elif 2 %}{% endif %}", "{% for x in y %}{% endif %}", "{% endfor %}", "{{ x is defined is defined }}",
    "{% for loop in [1] %}{{ loop }}{% endfor %}", "{% for x in [1] %}{% set loop = 1 %}{% endfor %}", "{% macro f(caller) %}{{ caller }}{% endmacro %}", "{{ '\\x4' }}", "{{ '\\u12' }}", "{{ '\\ud800' }}", "{{ '\\U00110000' }}", "{% if 1 %}{% endfor %}", "{{ 1 if }}", "{{ not }}", "{{ x in }}", "{{ x not y }}", "{{ x.1.5e3.y. }}",
    # unknown names and other templates
    "{{ 1|nope }}", "{{ 1 is nope }}", "{{ x|a.b }}", "{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}", "{% trans %}a{% endtrans %}", "{% debug %}", "{% autoescape %}x{% endautoescape %}",
    # run time: undefined
    "{{ missing.x }}", "{{ missing['x'] }}", "{{ missing[0] }}", "{{ missing[1:] }}", "{{ missing() }}", "{{ missing + 1 }}", "{{ 1 + missing }}", "{{ 'a' + missing }}", "{{ -missing }}", "{{ missing < 1 }}", "{{ missing * 2 }}", "{{ d.zz.y }}", "{{ d['zz'].y }}", "{{ missing|int }}", "{{ missing|float }}", "{{ missing|abs }}", "{{ missing|round }}", "{{ missing|tojson }}", "{{ missing|indent }}", "{{ missing|dictsort }}", "{{ (1 if false).x }}", "{{ missing.items() }}", "{{ missing is odd }}", "{{ list[10].x }}", "{% for x in list %}{{ loop.previtem.x }}{% endfor %}", "{{ missing|attr('x') }}", "{% set missing.x = 1 %}", "{{ missing|tojson(indent=2) }}", "{{ [missing]|tojson }}", "{{ missing % 2 }}", "{{ missing ** 2 }}", "{{ missing // 2 }}", "{{ missing / 2 }}",
    # run time: types
    "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ 'a' + none }}", "{{ none + 'a' }}", "{{ 'a' - 'b' }}", "{{ [1] + (1,) }}", "{{ [1] + 'a' }}", "{{ {} + {} }}", "{{ 'a' * 'b' }}", "{{ 'a' * 1.5 }}", "{{ 1 < 'a' }}", "{{ none < 1 }}", "{{ {} < {} }}", "{{ [1] < ['a'] }}", "{{ -'a' }}", "{{ +none }}", "{{ 1 in 5 }}", "{{ 1 in 'a' }}", "{{ none in 'abc' }}", "{{ [] in {} }}", "{{ 5() }}", "{{ 'a'() }}", "{{ list() }}", "{{ d() }}", "{{ n.x.y }}", "{{ none.x.y }}", "{{ n[1:2] }}", "{{ d[1:2] }}", "{{ nothing[1:] }}", "{{ s['a':] }}", "{{ s[1.5:] }}", "{{ s[::0] }}", "{{ list[::0] }}", "{{ {[]: 1} }}", "{{ {{}: 1} }}",
    "{% for x in 5 %}{% endfor %}", "{% for x in none %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1,)] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% set a, b = 1 %}", "{% set a, b = [1] %}", "{% set x = 1 %}{% set x.y = 2 %}", "{% set x = {} %}{% set x.y = 2 %}", "{% for x in list %}{{ loop() }}{% endfor %}", "{% for x in list %}{{ loop.cycle() }}{% endfor %}",
    "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}", "{{ 1.0 / 0 }}", "{{ 1.5 // 0 }}", "{{ 1.5 % 0 }}", "{{ 0 ** -1 }}", "{{ 10.0 ** 400 }}", "{{ 1|divisibleby(0) }}", "{{ 1 is divisibleby 0 }}", "{{ range(1, 2, 0) }}", "{{ range(100001) }}", "{{ range('a') }}", "{{ range() }}", "{{ range(1.5) }}", "{{ range(1, 2, 3, 4) }}",
    # run time: arguments
    "{% macro f() %}{% endmacro %}{{ f(1) }}", "{% macro f() %}{% endmacro %}{{ f(a=1) }}", "{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}", "{% macro f() %}{% endmacro %}{% call f() %}{% endcall %}", "{{ s.upper(1) }}", "{{ s.split(1) }}", "{{ s.split('') }}", "{{ s.replace('a') }}", "{{ s.replace(1, 2) }}", "{{ s.join(1) }}", "{{ ','.join([1]) }}", "{{ ','.join([none]) }}", "{{ s.index('zz') }}", "{{ s.rindex('zz') }}", "{{ list.index(99) }}", "{{ s.startswith(1) }}", "{{ s.strip(1) }}", "{{ s.center('a') }}", "{{ s.center(5, 'ab') }}", "{{ s.zfill() }}", "{{ d.get() }}", "{{ d.get([]) }}", "{{ d.items(1) }}", "{{ dict(1) }}", "{{ dict([1]) }}", "{{ dict([(1, 2, 3)]) }}", "{{ dict({}, {}) }}", "{{ namespace(1) }}", "{{ cycler() }}", "{{ joiner(1, 2) }}", "{{ raise_exception() }}", "{{ strftime_now() }}", "{{ strftime_now(5) }}", "{{ s|replace('a') }}", "{{ s|replace }}", "{{ s|upper(1) }}", "{{ s|trim(1) }}", "{{ s|center('a') }}", "{{ list|join(1, 2, 3) }}", "{{ list|sort(nope=1) }}", "{{ s|truncate(1) }}", "{{ s|truncate(5, leeway=-1) }}", "{{ list|batch }}", "{{ list|slice(0)|list }}", "{{ 1.5|round(1, 'nope') }}", "{{ 'a'|round }}", "{{ none|round }}", "{{ d|dictsort(by='x') }}", "{{ list|dictsort }}", "{{ list|map|list }}", "{{ list|map('nope')|list }}", "{{ list|map(attribute='a', nope=1)|list }}", "{{ list|select('nope')|list }}", "{{ list|selectattr|list }}", "{{ '%s|%s' % 1 }}", "{{ '%d' % 'a' }}", "{{ 'a' % 1 }}", "{{ '%s' % (1, 2) }}", "{{ '%q' % 1 }}", "{{ '%' % 1 }}", "{{ '%(a)s' % {} }}", "{{ '%(a)s' % 1 }}", "{{ '%x' % 1.5 }}", "{{ '%c' % 'ab' }}", "{{ '{}'.format() }}", "{{ '{a}'.format(1) }}", "{{ '{0}{}'.format(1, 2) }}", "{{ '{'.format(1) }}", "{{ '}'.format(1) }}", "{{ '{:d}'.format('a') }}", "{{ '{:5}'.format(none) }}", "{{ '{:.2d}'.format(5) }}", "{{ '{!x}'.format(1) }}", "{{ '{0.__class__}'.format(1)|length + 'a' }}", "{{ '{:s}'.format(1) }}", "{{ '{:5.}'.format(1) }}", "{{ '%s'|format(1, a=2) }}",
    # run time: filters on the wrong kind
    "{{ 5|length }}", "{{ none|length }}", "{{ 5|list }}", "{{ 5|first }}", "{{ 5|last }}", "{{ 5|join }}", "{{ none|join }}", "{{ 5|sum }}", "{{ ['a']|sum }}", "{{ 5|sort }}", "{{ [1, 'a']|sort }}", "{{ [none, 1]|sort }}", "{{ [1, 'a']|max }}", "{{ [none, none]|max }}", "{{ 5|map('upper')|list }}", "{{ 'a'|abs }}", "{{ none|abs }}", "{{ 5|indent }}", "{{ none|indent }}", "{{ 5|reverse }}", "{{ 5|unique|list }}", "{{ [[1]]|unique|list }}", "{{ 5|items|list }}", "{{ list|items|list }}", "{{ list|map('string')|length }}", "{{ list|map('string')|last }}", "{{ list|reverse|length }}", "{{ list|map('string')|tojson }}", "{{ d.items()|tojson }}", "{{ range(3)|tojson }}", "{{ namespace()|tojson }}", "{{ {(1, 2): 3}|tojson }}", "{{ {1: 1, 'a': 2}|tojson(sort_keys=true) }}", "{{ joiner()|tojson }}", "{{ 1|wordcount(2) }}", "{{ 1e400|int }}", "{{ ('inf'|float)|int }}", "{{ users|sort(attribute='tags.0')|list }}", "{{ users|map(attribute='tags.0.x')|list }}", "{{ 'abc' is divisibleby 2 }}", "{{ 'a' is odd }}", "{{ none is even }}", "{{ 1 is in 5 }}", "{{ 'a' is gt 1 }}", "{{ list|groupby }}", "{{ users|groupby('tags')|list }}", "{{ 5|batch(2)|list }}", "{{ list|tojson(indent=1.5) }}", "{{ list|tojson(separators=1) }}", "{{ list|tojson(nope=1) }}", "{{ none|dictsort }}", "{{ none|truncate }}", "{{ {1: 2}|xmlattr }}", "{{ {'a b': 2}|xmlattr }}", "{{ [1]|urlencode }}", "{{ 'x'|filesizeformat }}",
    # the sandbox
    "{{ list.append(1) }}", "{% do list.append(1) %}", "{{ list.pop() }}", "{{ list.sort() }}", "{{ list.extend([1]) }}", "{{ list.insert(0, 1) }}", "{{ list.remove(1) }}", "{{ list.reverse() }}", "{{ list.clear() }}", "{{ d.update({}) }}", "{{ d.pop('a') }}", "{{ d.setdefault('a', 1) }}", "{{ d.popitem() }}", "{{ d.clear() }}", "{{ d['update']({}) }}", "{{ s.__class__() }}", "{{ s.__class__.__mro__ }}", "{{ s['__class__'].x }}", "{{ (d|attr('pop'))('a') }}", "{{ s.__init__() }}", "{{ [].__class__.__base__ }}", "{{ range.__globals__.x }}",
    # the template's own refusals
    "{{ raise_exception('no way') }}", "{% if n %}{{ raise_exception('role ' ~ messages[0].role ~ ' is bad') }}{% endif %}", "{{ raise_exception(message='kw') }}", "{{ raise_exception('Zürich <b>') }}", "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('at ' + loop.index|string) }}{% endif %}{% endfor %}", "{% macro f() %}{{ raise_exception('in macro') }}{% endmacro %}{{ f() }}", "{% set x %}{{ raise_exception('in set') }}{% endset %}", "{{ raise_exception(5) }}",
]
