defmodule Typhon.Options.Option do
  @moduledoc false
  # An option stands once: where it may be given, its default, its check and its documentation are one piece of data.
  # From it come what is checked (Typhon.Options), the types and the lists of options in the documentation
  # (Typhon.Options.Render).

  alias Typhon.Options.Check

  @enforce_keys [:name, :scope, :check, :doc]
  defstruct [
    :name,
    :scope,
    :check,
    :doc,
    :default,
    :default_doc,
    :group,
    :language,
    :type,
    :result,
    as_of: []
  ]

  @typedoc """
  `scope`: the functions whose documentation describes the option; `as_of`: further ones, which refer to the first of those.
  `check`: what a value may be. nil may stand for a default that is nil.
  `default_doc`: the default in words, where the value does not say it.
  `group`: under which heading it is described; `language`: the only one that has it.
  `type`: what a user writes, as quoted code, where the check does not tell; `result`: what the check makes of it, where that
  is another.
  """
  @type t :: %__MODULE__{
          name: atom,
          scope: [atom, ...],
          as_of: [atom],
          check: Check.t(),
          doc: String.t(),
          default: default,
          default_doc: nil | String.t(),
          group: nil | atom,
          language: nil | :python | :ruby,
          type: Macro.t(),
          result: Macro.t()
        }

  @typedoc "A value; one that the configuration of :typhon may replace; or what a function returns."
  @type default :: term | {:config, atom, term} | {:result, (() -> term)}

  @doc "A table of options, `options/0`. Its entries are `option(name, fields)`; `fields` here are those of all of them."
  defmacro __using__(fields) do
    quote do
      import unquote(__MODULE__), only: [option: 2]

      import Check,
        only: [positive: 0, positive: 1, non_negative: 0, non_negative: 1, integer: 3, power_of_two: 3]

      @before_compile unquote(__MODULE__)
      @fields unquote(fields)
      Module.register_attribute(__MODULE__, :option, accumulate: true)
    end
  end

  defmacro option(name, fields) do
    quote do
      @option unquote(__MODULE__).new(unquote(name), @fields ++ unquote(fields))
    end
  end

  defmacro __before_compile__(env) do
    options = env.module |> Module.get_attribute(:option) |> Enum.reverse()

    quote do
      @spec options :: [unquote(__MODULE__).t(), ...]
      def options, do: unquote(Macro.escape(options))
    end
  end

  @spec new(atom, keyword) :: t
  def new(name, fields), do: struct!(__MODULE__, [{:name, name} | fields])

  @spec default(t) :: term
  def default(%{default: {:config, key, value}}), do: Application.get_env(:typhon, key, value)
  def default(%{default: {:result, fun}}), do: fun.()
  def default(%{default: value}), do: value
end
