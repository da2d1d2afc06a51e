%% Options of `python:start_link/1` and its like, for those who look at them themselves: the same names, defaults and errors as
%% ErlPort's. See typhon_erlport_options.
-module(python_options).

-export([parse/1]).

-export_type([option/0, options/0]).

-include("python.hrl").

-type option() :: typhon_erlport_options:option().
-type options() :: typhon_erlport_options:options().

-spec parse(options()) -> {ok, #python_options{}} | {error, term()}.
parse(Options) -> typhon_erlport_options:record(python_options, python, Options).
