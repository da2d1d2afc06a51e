defmodule Report.Sales do
  @moduledoc """
  The functions of `priv/py/sales.py`, made when this is compiled: `read/1` and `read!/1`, `monthly/1` and so on, with their
  documentation.
  """

  use Typhon.Module, file: "priv/py/sales.py", pool: Report.Python
end
