%% Options of `python:start_link/1` and its like, for those who look at them themselves: the same names, defaults and errors as
%% ErlPort's. See typhon_erlport_options.
-module(python_options).

-export([parse/1]).

-export_type([option/0, options/0]).

-include("python.hrl").

-type option() :: typhon_erlport_options:option().
-type options() :: [option()].

-spec parse(options()) -> {ok, #python_options{}} | {error, term()}.
parse(Options) ->
    case typhon_erlport_options:parse(python, Options) of
        {ok, Parsed} ->
            {ok, #python_options{
                python = maps:get(command, Parsed),
                cd = maps:get(cd, Parsed),
                use_stdio = maps:get(use_stdio, Parsed),
                compressed = maps:get(compressed, Parsed),
                packet = maps:get(packet, Parsed),
                env = maps:get(env, Parsed),
                python_path = maps:get(path, Parsed),
                port_options = maps:get(port_options, Parsed),
                start_timeout = maps:get(start_timeout, Parsed),
                call_timeout = maps:get(call_timeout, Parsed),
                buffer_size = maps:get(buffer_size, Parsed)
            }};
        {error, _} = Error ->
            Error
    end.
