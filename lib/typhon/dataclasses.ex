defmodule Typhon.Dataclasses do
  @moduledoc false
  # Elixir's structs as the source of Python dataclasses, for mix typhon.gen.py.
  #
  # A name in a class hides the same name outside from the lines below it: after a field `list` the builtin is not to be had.
  # So `scope` has all names of fields, and what is one of them is written in another way (Typhon.Dataclasses.Scope).

  alias Typhon.Dataclasses.{Fields, Literal, Scope, Type}

  @first_line "# Written by mix typhon.gen.py. What is changed here is lost when that runs again:"

  @typep field :: %{
           name: atom,
           python: String.t(),
           type: [String.t()],
           value: Literal.t() | :required,
           default: term
         }

  @doc "Whether a file is one of these."
  @spec ours?(String.t()) :: boolean
  def ours?(text), do: String.starts_with?(text, @first_line)

  @doc "The source of classes of these structs. `command` is what makes it."
  @spec source([module, ...], String.t()) :: String.t()
  def source(modules, command) do
    modules = Enum.uniq(modules)
    scope = modules |> Map.new(&{&1, Fields.names(&1)}) |> Scope.new()
    classes = Enum.map_join(modules, "\n\n", &class(&1, scope))

    """
    #{@first_line}
    #
    #     #{command}
    #
    # What Elixir sends becomes an instance by #{made(hd(modules), "sent", scope)}.
    # What is returned becomes the struct by the option as: of the call.

    from __future__ import annotations

    #{Scope.imports(scope, classes)}


    #{classes}\
    """
  end

  defp class(module, scope) do
    fields = fields(module, scope)
    renamed = for %{name: name, python: python} <- fields, Atom.to_string(name) != python, do: {name, python}

    parts = [
      Enum.map(fields, &field(&1, scope)),
      nested(fields, scope),
      if(renamed == [], do: [], else: methods(module, renamed, scope))
    ]

    body =
      [~s("""Elixir's struct #{inspect(module)}."""\n) | parts]
      |> Enum.reject(&(&1 == []))
      |> Enum.map_join("\n", &IO.iodata_to_binary/1)
      |> String.replace(~r/^(?=.)/m, "    ")

    [
      comments(module),
      "@",
      Scope.module(scope, "dataclasses"),
      ".dataclass\nclass ",
      scope.classes[module],
      ":\n",
      body
    ]
    |> IO.iodata_to_binary()
  end

  # --- fields ---

  # Those that have to be given come first, as Python wants it.
  @spec fields(module, Scope.t()) :: [field]
  defp fields(module, scope) do
    defaults = module.__struct__()
    required = Fields.required(module)
    types = Type.fields(module, scope)

    {first, others} =
      scope.fields[module]
      |> Enum.map(fn {name, python} ->
        default = Map.fetch!(defaults, name)
        value = if name in required, do: :required, else: Literal.of(default, scope)
        type = Map.get_lazy(types, name, fn -> Type.any(scope) end)
        %{name: name, python: python, type: type, value: value, default: default}
      end)
      |> Enum.split_with(&(&1.value == :required))

    first ++ others
  end

  defp comments(module) do
    case {Fields.sent(module), Fields.left_out(module)} do
      {:nothing, _} ->
        "# Elixir sends none: the struct has no Typhon.Encoder.\n"

      {:by_hand, _} ->
        "# The struct's Typhon.Encoder is written by hand: what Elixir sends may have other fields.\n"

      {_derived, []} ->
        ""

      {_derived, others} ->
        left_out(others, Enum.filter(others, &(&1 in Fields.required(module))))
    end
  end

  defp left_out(fields, []), do: "# Elixir does not send #{list(fields)}.\n"

  defp left_out(fields, needed),
    do: "# Elixir does not send #{list(fields)}. The option as: needs #{list(needed)} (@enforce_keys).\n"

  defp list(names), do: Enum.map_join(names, ", ", &shown/1)

  defp field(field, scope) do
    {value, notes} = value(field, scope)

    notes =
      if Atom.to_string(field.name) == field.python,
        do: notes,
        else: [shown(field.name) <> " in Elixir" | notes]

    comment = if notes == [], do: "", else: "  # " <> Enum.join(notes, "; ")
    # What is nil in Elixir may be None, whatever its type says.
    type = if value == " = None", do: field.type ++ ["None"], else: field.type
    [field.python, ": ", Type.text(type, scope), value, comment, "\n"]
  end

  defp value(%{value: :required}, _scope), do: {"", []}
  defp value(%{value: {:plain, text}}, _scope), do: {" = " <> text, []}

  defp value(%{value: {:made, maker}}, scope),
    do: {" = #{Scope.module(scope, "dataclasses")}.field(default_factory=#{maker})", []}

  defp value(%{value: :none, default: default}, _scope),
    do: {" = None", ["Elixir's default has no counterpart: #{shown(default)}"]}

  # On one line, as a comment has to be.
  defp shown(term) do
    term |> inspect(limit: 5, printable_limit: 60) |> String.replace(~r/\s+/u, " ") |> String.slice(0, 100)
  end

  # --- methods ---

  # Elixir sends structs in structs as dicts. What an encoder by hand makes of one is its own.
  defp nested(fields, scope) do
    lines =
      for %{python: name, type: type} <- fields,
          {_, module} = class <- [Type.class(type, scope)],
          Fields.sent(module) != :by_hand,
          do: nested(class, "self." <> name, scope)

    if lines == [], do: [], else: ["def __post_init__(self) -> None:\n" | lines]
  end

  defp nested({:one, module}, name, scope) do
    dict = Scope.builtin(scope, "dict")
    "    if isinstance(#{name}, #{dict}):\n        #{name} = #{made(module, name, scope)}\n"
  end

  defp nested({:list, module}, name, scope) do
    [list, dict] = Enum.map(["list", "dict"], &Scope.builtin(scope, &1))
    one = "#{made(module, "item", scope)} if isinstance(item, #{dict}) else item"
    "    if isinstance(#{name}, #{list}):\n        #{name} = [#{one} for item in #{name}]\n"
  end

  defp made(module, name, scope) do
    if Enum.all?(scope.fields[module], fn {name, python} -> Atom.to_string(name) == python end),
      do: "#{scope.classes[module]}(**#{name})",
      else: "#{scope.classes[module]}.from_elixir(#{name})"
  end

  # Of fields whose names are none in Python.
  defp methods(module, renamed, scope) do
    class = scope.classes[module]

    dict =
      "#{Scope.builtin(scope, "dict")}[#{Scope.builtin(scope, "str")}, #{Scope.module(scope, "typing")}.Any]"

    pairs = for {name, python} <- renamed, do: {Literal.string(Atom.to_string(name)), Literal.string(python)}

    """
    @#{Scope.builtin(scope, "classmethod")}
    def from_elixir(cls, sent: #{dict}) -> #{class}:
        \"""Of what Elixir has sent, in place of #{class}(**sent): some names of the fields are none in Python.\"""
        names = {#{Enum.map_join(pairs, ", ", fn {elixir, python} -> "#{elixir}: #{python}" end)}}
        return cls(**{names.get(key, key): value for key, value in sent.items()})

    def to_elixir(self) -> #{dict}:
        \"""What the option as: takes, with Elixir's names of the fields.\"""
        names = {#{Enum.map_join(pairs, ", ", fn {elixir, python} -> "#{python}: #{elixir}" end)}}
        return {names.get(key, key): value for key, value in vars(self).items()}
    """
  end
end
