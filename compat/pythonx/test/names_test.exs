defmodule Pythonx.NamesTest do
  use ExUnit.Case, async: true

  @cases [
    {"x = 1", "", "x"},
    {"x, (y, *z) = 1, (2, 3)", "", "x y z"},
    {"x = x", "x", "x"},
    {"x = 1\nx + y", "y", "x"},
    {"x += 1", "x", "x"},
    {"x: int = y", "y", "x"},
    {"x: int", "", ""},
    {"x[i] = v", "i v x", ""},
    {"x.y = v", "v x", ""},
    {"del x", "x", ""},
    {"import ast, numpy.random, math as m", "", "ast m numpy"},
    {"from math import pi, e as euler", "", "euler pi"},
    {"from math import *\npi", "pi", ""},
    {"print(len(rows))", "rows", ""},
    {"def f(a, /, b=c, *args, d: t = e, **kw) -> r:\n  import m\n  x = a + b + d + m\n  return x, args, kw, g",
     "c e g r t", "f"},
    {"def f():\n  print(x)\n  x = 1", "", "f"},
    {"def f():\n  for i in rows: pass\n  with o as w: pass\n  try: pass\n  except E as err: err\n  return i, w",
     "E o rows", "f"},
    {"def f():\n  return f()", "", "f"},
    {"def f():\n  global n\n  n = 1", "n", "f n"},
    {"def f():\n  def g():\n    nonlocal x\n    x = 2\n  x = 1\n  return g", "", "f"},
    {"async def f(): return await g()", "g", "f"},
    {"@wrap\ndef f(): pass", "wrap", "f"},
    {"class C(B, metaclass=M):\n  x = y\n  z = x\n  def f(self): return x, C", "B M x y", "C"},
    {"lambda a, b=c: a + b + d", "c d", ""},
    {"[n * m for n in rows if n > k]", "k m rows", ""},
    {"{k: v for k, v in rows}", "rows", ""},
    {"[x for x in x]", "x", ""},
    {"[y for x in rows for y in x]", "rows", ""},
    {"[s := n for n in rows]\ns", "rows", "s"},
    {"if (n := size()) > 1: n", "size", "n"},
    {"def f():\n  [s := n for n in rows]\n  return s", "rows", "f"},
    {"for i in rows:\n  i\nelse:\n  j = i", "rows", "i j"},
    {"while go: x = 1", "go", "x"},
    {"with open(p) as f, g: f", "g p", "f"},
    {"if a:\n  x = 1\nelse:\n  y = 2", "a", "x y"},
    {"try:\n  x = 1\nexcept E as e:\n  e\n  y = 2\ne", "E e", "x y"},
    {"match v:\n  case [a, *b]: a\n  case {'k': c, **d}: d\n  case P(x=e) as f if e: g\n  case _: pass",
     "P g v", "a b c d e f"},
    {"f'{x!r:>{w}}'", "w x", ""},
    {"await g(x)", "g x", ""},
    {"return x", "x", ""},
    {"", "", ""}
  ]

  for {{code, used, defined}, number} <- Enum.with_index(@cases) do
    test "#{number}: #{inspect(code)}" do
      assert Pythonx.Names.scan(unquote(code)) ==
               {String.split(unquote(used)), String.split(unquote(defined))}
    end
  end

  test "code that is none is the error that its evaluation would be" do
    assert_raise Pythonx.Error, ~r/SyntaxError/, fn -> Pythonx.Names.scan("x = (") end
  end
end
