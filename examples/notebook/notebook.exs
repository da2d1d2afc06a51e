# A session as in a notebook: the cells run one after the other, in a namespace that stays. README.md says how to run them.
#
# ~P is Python code with its file and line. From Elixir 1.15 on it may be written ~PY, as on Livebook's pages.

# --- Cell 1: a Python, and a namespace in it

import Typhon.Sigil

python = System.get_env("EXAMPLE_PYTHON", ".venv")

# The crash further below is on purpose: its error is what we look at, not the log.
Logger.configure(level: :error)

# The default pool is that of ~P"…"r. Two workers: when one has crashed, the other is there at once.
{:ok, py} = Typhon.default(python: python, workers: 2)
{:ok, scope} = Typhon.scope(py)

# --- Cell 2: a frame out of Elixir's data

rides =
  for day <- 0..59 do
    degrees = rem(day * 7, 25)
    %{day: Date.add(~D[2026-03-02], day), degrees: degrees, riders: 100 + 12 * degrees}
  end

# The bindings are variables of the scope, too. `keys: :strings`, as a frame's columns are strings and not atoms. The first
# import of pandas takes a while on a cold machine, so there is time for it.
frame =
  Typhon.eval!(
    scope,
    ~P"""
    import pandas as pd

    frame = pd.DataFrame(rides)
    frame["day"] = pd.to_datetime(frame["day"])
    frame
    """,
    [rides: rides],
    keys: :strings,
    timeout: 60_000
  )

# A frame has no counterpart in Elixir: it stays in Python, and this is its handle.
IO.puts("a frame: #{Typhon.type(frame)} of #{Typhon.len!(frame)} rows")

# --- Cell 3: what the frame says, as Elixir's own data

by_month =
  Typhon.eval!(scope, ~P"""
  months = frame.groupby(frame["day"].dt.month)["riders"].agg(["sum", "max"])
  months.reset_index(names="month").to_dict("records")
  """)

IO.inspect(by_month, label: "by month")

# The same handle without any code: frame["degrees"].mean(), in one request.
mean = Typhon.chain!(frame, item: "degrees", call: {"mean", []})
IO.puts("#{Float.round(mean, 2)} degrees on average")

# --- Cell 4: a model that is kept as an object

model =
  Typhon.eval!(
    scope,
    ~P"""
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(frame[["degrees"]].to_numpy(), frame["riders"])
    model
    """,
    %{},
    timeout: 60_000
  )

predicted = Typhon.call!(py, model, :predict, [[[10], [30]]])
IO.inspect(predicted |> Typhon.Array.to_list() |> Enum.map(&round/1), label: "riders at 10 and 30 degrees")

# --- Cell 5: a plot, saved as a file

plot =
  Typhon.eval!(
    scope,
    ~P"""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.scatter(frame["degrees"], frame["riders"])
    axes.set(xlabel="degrees", ylabel="riders")
    figure
    """,
    %{},
    timeout: 60_000
  )

# In Livebook the handle at the end of a cell shows the picture.
path = Path.join(System.tmp_dir!(), "typhon-notebook-#{System.pid()}.png")
:ok = Typhon.save(plot, path, timeout: 60_000)
<<0x89, "PNG", _::binary>> = File.read!(path)
IO.puts("a picture of more than 5 KB: #{File.stat!(path).size > 5_000}")
File.rm!(path)

# --- Cell 6: Elixir's variables in a line of Python

rows = [3, 4, 7]
IO.inspect(~P"[row / sum(rows) for row in rows]"r |> Enum.map(&Float.round(&1, 2)), label: "shares")

# --- Cell 7: a cell that takes too long is cancelled, and the scope lives on

:ok = Typhon.put(scope, :steps, 0)

{:error, %Typhon.TimeoutError{timeout: 500}} =
  Typhon.eval(
    scope,
    ~P"""
    while True:
        steps += 1
    """,
    %{},
    timeout: 500
  )

# What was there before is there, and so is what the code has come to.
true = Typhon.get!(scope, :steps) >= 0
IO.puts("cancelled; the frame still has #{Typhon.eval!(scope, "len(frame)")} rows")

# --- Cell 8: a mistake is Python's own error, with the line of this file

{:error, %Typhon.PythonError{} = error} = Typhon.eval(scope, ~P"frame['rider'].sum()")
[%{file: file, line: line} | _] = error.traceback
IO.puts("#{error.type}: #{error.message} in #{Path.basename(file)}, line #{line}")

# --- Cell 9: a cell that crashes its Python takes neither the BEAM nor the session with it

{:error, %Typhon.WorkerError{reason: :signal} = error} =
  Typhon.eval(scope, ~P"""
  import ctypes

  ctypes.string_at(0)
  """)

# The message goes on: what is lost, and what Python wrote as it died.
IO.puts(error |> Exception.message() |> String.split(".") |> hd())

# What was in that Python is gone: the names of the scope, and the objects that there are handles of.
{:error, %Typhon.WorkerError{}} = Typhon.get(scope, :frame)
{:error, %Typhon.WorkerError{}} = Typhon.call(py, model, :predict, [[[10]]])

# --- Cell 10: a new scope, on another worker, and the session goes on

{:ok, scope} = Typhon.scope(py, rides: rides)
IO.puts("a new scope: #{Typhon.eval!(scope, "len(rides)")} rides")

:ok = Typhon.stop(py)
