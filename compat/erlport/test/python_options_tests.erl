%% python_options:parse/1, as ErlPort's programs know it.
-module(python_options_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/python.hrl").

%% The Python that is there, whatever it is called.
parse(Options) -> python_options:parse([{python, "python3"} | Options]).

defaults_test() ->
    {ok, Options} = python_options:parse([]),
    #python_options{python = Python, python_path = Path, env = Env, port_options = Port} = Options,
    ?assertMatch(
        #python_options{
            cd = undefined,
            use_stdio = use_stdio,
            compressed = 0,
            packet = 4,
            start_timeout = 10000,
            call_timeout = infinity,
            buffer_size = 65536
        },
        Options
    ),
    ?assertMatch({match, _}, re:run(Python, "/python3?$")),
    ?assertMatch({match, _}, re:run(Path, "/priv/python$")),
    ?assertEqual([{"PYTHONPATH", Path}], Env),
    ?assertEqual([{env, Env}, {packet, 4}, binary, hide, exit_status], Port).

numbers_test_() ->
    [
        ?_assertMatch({ok, #python_options{buffer_size = 5000}}, parse([{buffer_size, 5000}])),
        ?_assertMatch({ok, #python_options{compressed = 9}}, parse([{compressed, 9}])),
        ?_assertMatch({ok, #python_options{packet = 1}}, parse([{packet, 1}])),
        ?_assertMatch({ok, #python_options{packet = 2}}, parse([{packet, 2}])),
        ?_assertMatch({ok, #python_options{start_timeout = 5000}}, parse([{start_timeout, 5000}])),
        ?_assertMatch({ok, #python_options{start_timeout = infinity}}, parse([{start_timeout, infinity}])),
        ?_assertMatch({ok, #python_options{call_timeout = 5000}}, parse([{call_timeout, 5000}])),
        %% The last one counts.
        ?_assertMatch({ok, #python_options{packet = 2}}, parse([{packet, 1}, {packet, 2}]))
    ] ++
        [
            ?_assertEqual({error, {invalid_option, Option}}, python_options:parse([Option]))
         || Option <- [
                {buffer_size, 0},
                {buffer_size, invalid},
                {compressed, 10},
                {compressed, -1},
                {compressed, invalid},
                {packet, 3},
                {start_timeout, 0},
                {start_timeout, invalid},
                {call_timeout, 0},
                {call_timeout, -5},
                {call_timeout, invalid},
                {cd, "invalid_directory"},
                {cd, 5}
            ]
        ].

stdio_test_() ->
    [
        ?_assertMatch({ok, #python_options{use_stdio = use_stdio}}, parse([use_stdio])),
        fun() ->
            {ok, #python_options{use_stdio = nouse_stdio, port_options = Port}} = parse([nouse_stdio]),
            ?assert(lists:member(nouse_stdio, Port))
        end,
        ?_assertEqual({error, {unknown_option, unknown}}, python_options:parse([unknown])),
        ?_assertEqual({error, {unknown_option, {ruby_lib, "x"}}}, python_options:parse([{ruby_lib, "x"}]))
    ].

env_test_() ->
    Invalid = [{test, "true"}, {"test", true}, invalid],
    [
        fun() ->
            {ok, #python_options{env = Env, python_path = Path}} = parse([{env, [{"test", "true"}, {"gone", false}]}]),
            ?assertEqual([{"PYTHONPATH", Path}, {"test", "true"}, {"gone", false}], Env)
        end,
        fun() ->
            {ok, #python_options{env = Env}} = parse([{env, [{<<"test">>, <<"true">>}]}]),
            ?assert(lists:member({"test", "true"}, Env))
        end,
        ?_assertEqual(
            {error, {invalid_option, {env, [{"test", "true"} | Invalid]}, Invalid}},
            python_options:parse([{env, [{"test", "true"} | Invalid]}])
        ),
        ?_assertEqual(
            {error, {invalid_option, {env, invalid_env}, not_list}}, python_options:parse([{env, invalid_env}])
        )
    ].

cd_test() ->
    {ok, #python_options{cd = "/", env = Env, port_options = Port}} = parse([{cd, "/"}]),
    ?assertEqual([{env, Env}, {packet, 4}, {cd, "/"}, binary, hide, exit_status], Port).

python_path_test_() ->
    %% Behind the packages erlport and typhon.
    Own = fun(Path) -> lists:nthtail(2, string:lexemes(Path, ":")) end,
    Check = fun(Expected, Options) ->
        fun() ->
            {ok, #python_options{python_path = Path, env = [{"PYTHONPATH", Path} | _]}} = parse(Options),
            [Erlport, Typhon] = lists:sublist(string:lexemes(Path, ":"), 2),
            ?assertEqual(filename:join(code:priv_dir(erlport), "python"), Erlport),
            ?assertMatch({match, _}, re:run(Typhon, "/typhon/priv/python$")),
            ?assertEqual(Expected, Own(Path))
        end
    end,
    [
        with_env("PYTHONPATH", "", [
            Check([], []),
            Check(["/one"], [{python_path, ["/one"]}]),
            Check(["/one"], [{python_path, "/one"}]),
            Check(["/one"], [{python_path, <<"/one">>}]),
            Check(["/one", "/two"], [{python_path, [<<"/one">>, "/two"]}]),
            Check(["/one", "/two"], [{python_path, "/one:/two"}]),
            Check(["/one", "/two"], [{python_path, ["/one"]}, {env, [{"PYTHONPATH", "/two"}]}]),
            Check(["/one", "/two"], [{env, [{"PYTHONPATH", "/one"}, {"PYTHONPATH", "/two"}]}]),
            Check(["/one", "/two"], [{python_path, ["/one", "/two", ""]}, {env, [{"PYTHONPATH", "/two:/one"}]}])
        ]),
        with_env("PYTHONPATH", "/one:/two", [
            Check(["/one", "/two"], []),
            Check(["/three", "/one", "/two"], [{python_path, "/three"}])
        ])
    ] ++
        [
            ?_assertEqual({error, {invalid_option, {python_path, Path}, Why}}, python_options:parse([{python_path, Path}]))
         || {Path, Why} <- [
                {invalid_path, not_list},
                {"", invalid_path},
                {[invalid], invalid_path},
                {["/one", invalid], [invalid]},
                {[$a, $b, invalid], [invalid]}
            ]
        ].

python_test_() ->
    {setup, fun scripts/0, fun(Dir) -> file:del_dir_r(Dir) end, fun(Dir) ->
        Script = fun(Name) -> filename:join(Dir, Name) end,
        Refused = fun(Python, Why) -> ?_assertEqual({error, Why}, python_options:parse([{python, Python}])) end,
        [
            fun() ->
                {ok, #python_options{python = Python}} = python_options:parse([{python, Script("good")}]),
                ?assertEqual(Script("good"), Python)
            end,
            fun() ->
                {ok, #python_options{python = Python}} = python_options:parse([{python, Script("good") ++ " -S"}]),
                ?assertEqual(Script("good") ++ " -S", Python)
            end,
            fun() ->
                {ok, #python_options{python = Python}} = python_options:parse([{python, Script("with space")}]),
                ?assertEqual(Script("with space"), Python),
                ?assertEqual({Python, []}, typhon_erlport_options:command(Python))
            end,
            [
                fun() ->
                    {ok, #python_options{python = Found}} = python_options:parse([{python, Python}]),
                    ?assertMatch({match, _}, re:run(Found, "/python3$"))
                end
             || Python <- ["python3", <<"python3">>, python3]
            ],
            Refused(Script("old"), {unsupported_python_version, "Python 3.10.13"}),
            Refused(Script("two"), {unsupported_python_version, "Python 2.7.18"}),
            Refused(Script("invalid"), {invalid_python, Script("invalid")}),
            Refused(Script("silent"), {invalid_python, Script("silent")}),
            Refused(Script("not_executable"), {invalid_option, {python, Script("not_executable")}, not_found}),
            Refused("typhon_unknown_name", {invalid_option, {python, "typhon_unknown_name"}, not_found}),
            Refused(5, {invalid_option, {python, 5}}),
            Refused("", {invalid_option, {python, ""}}),
            with_env("PATH", "", [?_assertEqual({error, python_not_found}, python_options:parse([]))]),
            with_env("ERLPORT_PYTHON", "INVALID_python", [
                ?_assertEqual(
                    {error, {invalid_env_var, {"ERLPORT_PYTHON", "INVALID_python"}, not_found}},
                    python_options:parse([])
                )
            ]),
            with_env("ERLPORT_PYTHON", Script("good"), [
                fun() ->
                    {ok, #python_options{python = Python}} = python_options:parse([]),
                    ?assertEqual(Script("good"), Python)
                end
            ]),
            fun() ->
                %% Nothing of the look at the version is left with the caller.
                ?assertEqual({messages, []}, process_info(self(), messages))
            end
        ]
    end}.

scripts() ->
    Dir = filename:join(
        os:getenv("TMPDIR", "/tmp"),
        lists:concat(["typhon-erlport-", os:getpid(), "-", erlang:unique_integer([positive])])
    ),
    ok = file:make_dir(Dir),
    [
        begin
            File = filename:join(Dir, Name),
            ok = file:write_file(File, ["#!/bin/sh\n", [["echo ", Says, "\n"] || Says =/= none]]),
            ok = file:change_mode(File, 8#755)
        end
     || {Name, Says} <- [
            {"good", "Python 3.13.0rc1"},
            {"with space", "Python 3.11.2"},
            {"old", "Python 3.10.13"},
            {"two", "Python 2.7.18"},
            {"invalid", "Python INVALID"},
            {"silent", none}
        ]
    ],
    ok = file:write_file(filename:join(Dir, "not_executable"), <<>>),
    Dir.

with_env(Name, Value, Tests) ->
    {setup,
        fun() ->
            Old = os:getenv(Name),
            os:putenv(Name, Value),
            Old
        end,
        fun
            (false) -> os:unsetenv(Name);
            (Old) -> os:putenv(Name, Old)
        end,
        Tests}.
