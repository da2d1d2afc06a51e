%% The module python, as ErlPort's documentation describes it.
-module(python_tests).

-include_lib("eunit/include/eunit.hrl").

%% Python calls these.
-export([recurse/2, through_another/1, identity/1, error_of_python/2, quit/0, vanish/0]).

%% What waits for another process waits so long before it is a failure.
-define(BOUND, 60000).

recurse(Instance, N) -> python:call(Instance, erlport_sample, recurse, [Instance, N]).

through_another(Instance) ->
    Self = self(),
    spawn_link(fun() -> Self ! {through, python:call(Instance, operator, add, [20, 22])} end),
    receive
        {through, Result} -> Result
    after ?BOUND -> timeout
    end.

identity(Term) -> Term.

error_of_python(Instance, Message) -> python:call(Instance, erlport_sample, fail, [Message]).

%% --- helpers ---

start(Options) ->
    {ok, P} = python:start_link([{python, "python3"}, {python_path, [py_dir()]} | Options]),
    P.

py_dir() -> filename:absname("test/py").

stop(P) ->
    Monitor = monitor(process, P),
    ok = python:stop(P),
    receive
        {'DOWN', Monitor, process, P, _} -> ok
    end.

with(Test) -> with([], Test).
with(Options, Test) ->
    {timeout, 120, fun() ->
        P = start(Options),
        try
            Test(P)
        after
            unlink(P),
            stop(P)
        end
    end}.

quiet(Test) ->
    {timeout, 120, fun() ->
        #{level := Level} = logger:get_primary_config(),
        logger:set_primary_config(level, none),
        process_flag(trap_exit, true),
        try
            Test()
        after
            process_flag(trap_exit, false),
            flush(),
            logger:set_primary_config(level, Level)
        end
    end}.

flush() ->
    receive
        _ -> flush()
    after 0 -> ok
    end.

call(P, Function, Args) -> python:call(P, erlport_sample, Function, Args).

exit_of(P) ->
    receive
        {'EXIT', P, Reason} -> Reason
    after ?BOUND -> timeout
    end.

receive_one() ->
    receive
        Message -> Message
    after ?BOUND -> timeout
    end.

%% What is printed to the group leader of an instance that is started and used in Fun.
output(Fun) ->
    Self = self(),
    Old = group_leader(),
    Leader = spawn_link(fun() -> device([]) end),
    group_leader(Leader, Self),
    try
        Fun()
    after
        group_leader(Old, Self)
    end,
    Leader ! {take, Self},
    receive
        {taken, Text} -> Text
    end.

printed() ->
    group_leader() ! {show, self()},
    receive
        {shown, Text} -> Text
    end.

device(Text) ->
    receive
        {show, From} ->
            From ! {shown, iolist_to_binary(Text)},
            device(Text);
        {io_request, From, As, {put_chars, Encoding, Characters}} ->
            From ! {io_reply, As, ok},
            device([Text, unicode:characters_to_binary(Characters, Encoding)]);
        {take, From} ->
            From ! {taken, iolist_to_binary(Text)}
    end.

%% --- start and stop ---

start_stop_test_() ->
    [
        {timeout, 120, fun() ->
            {ok, P} = python:start([{python, "python3"}]),
            ?assertEqual(4, python:call(P, operator, add, [2, 2])),
            stop(P),
            ?assertNot(is_process_alive(P)),
            ?assertExit({noproc, _}, python:call(P, operator, add, [2, 2]))
        end},
        {timeout, 120, fun() ->
            {ok, P} = python:start_link({local, python_test}, [{python, 'python3'}]),
            ?assertEqual(P, whereis(python_test)),
            ?assertEqual(4, python:call(python_test, operator, add, [2, 2])),
            ?assertEqual(4, python:call({python_test, node()}, operator, add, [2, 2])),
            ?assertMatch({error, {already_started, P}}, python:start({local, python_test}, [{python, <<"python3">>}])),
            unlink(P),
            stop(P)
        end},
        {timeout, 120, fun() ->
            {ok, P} = python:start({global, python_test}, [{python, "python3"}]),
            ?assertEqual(4, python:call({global, python_test}, operator, add, [2, 2])),
            ?assertEqual(4, python:call({via, global, python_test}, operator, add, [2, 2])),
            ok = python:cast({global, python_test}, message),
            stop(P)
        end},
        {timeout, 120, fun() ->
            {ok, P} = python:start({via, global, python_test2}, [{python, "python3"}]),
            ?assertEqual(P, global:whereis_name(python_test2)),
            ok = python:stop({via, global, python_test2}),
            await_end(P)
        end},
        ?_assertExit({noproc, _}, python:call(no_such_instance, operator, add, [2, 2]))
    ].

await_end(P) ->
    Monitor = monitor(process, P),
    receive
        {'DOWN', Monitor, process, P, Reason} -> Reason
    after ?BOUND -> timeout
    end.

default_python_test_() ->
    {timeout, 120, fun() ->
        {ok, P} = python:start(),
        {ok, P2} = python:start_link(),
        {ok, P3} = python:start({local, python_test3}),
        {ok, P4} = python:start_link({local, python_test4}),
        [?assertEqual(5, python:call(I, operator, add, [2, 3])) || I <- [P, P2, python_test3, P4]],
        unlink(P2),
        unlink(P4),
        lists:foreach(fun stop/1, [P, P2, P3, P4])
    end}.

%% The worker goes with its instance, however that ends, and no call waits for ever.
worker_ends_test_() ->
    [
        quiet(fun() ->
            P = start([]),
            OsPid = call_os_pid(P),
            ?assertEqual({os_pid, OsPid}, erlang:port_info(element(4, sys:get_state(P)), os_pid)),
            ?assertEqual(6, tuple_size(sys:get_state(P))),
            exit(P, kill),
            ?assertEqual(killed, exit_of(P)),
            gone(OsPid)
        end),
        quiet(fun() ->
            P = start([]),
            OsPid = call_os_pid(P),
            stop(P),
            ?assertEqual(normal, exit_of(P)),
            gone(OsPid)
        end),
        quiet(fun() ->
            P = start([]),
            exit(P, shutdown),
            ?assertEqual(shutdown, exit_of(P))
        end)
    ].

call_os_pid(P) -> python:call(P, os, getpid, []).

gone(OsPid) -> gone(OsPid, ?BOUND div 10).
gone(OsPid, 0) -> error({still_there, OsPid});
gone(OsPid, N) ->
    case 'Elixir.Typhon.Native':kill_pid(OsPid, 0) of
        {error, no_process} ->
            ok;
        _ ->
            timer:sleep(10),
            gone(OsPid, N - 1)
    end.

%% --- calls ---

call_test_() ->
    [
        with(fun(P) ->
            ?assertEqual(4, python:call(P, operator, add, [2, 2])),
            ?assertEqual(4, erlport:call(P, operator, add, [2, 2], [])),
            ?assertEqual({a, 1}, python:call(P, erlport_sample, 'Outer.Inner.method', [{a, 1}])),
            ?assert(is_list(python:call(P, sys, 'version.__str__', []))),
            ?assertEqual(1, python:call(P, erlport_sample, awaited, [1]))
        end),
        with(fun(P) ->
            ?assertError({erlport_option_error, {timeout, 0}}, python:call(P, operator, add, [1, 2], [{timeout, 0}])),
            ?assertError({erlport_invalid_option, bad}, python:call(P, operator, add, [1, 2], [bad])),
            ?assertEqual(3, python:call(P, operator, add, [1, 2], [{timeout, infinity}])),
            ?assertEqual(3, python:call(P, operator, add, [1, 2], [{timeout, ?BOUND}]))
        end)
    ].

pipeline_test_() ->
    [
        with(fun(P) ->
            Results = parallel([fun() -> python:call(P, operator, add, [N, 1]) end || N <- lists:seq(1, 200)]),
            ?assertEqual(lists:seq(2, 201), Results)
        end),
        with(fun(P) ->
            Big = <<0:262144/unit:8>>,
            ?assertEqual(
                lists:duplicate(50, 262144),
                parallel([fun() -> call(P, length, [Big]) end || _ <- lists:seq(1, 50)])
            )
        end)
    ].

parallel(Funs) ->
    Self = self(),
    Refs = [
        begin
            Ref = make_ref(),
            spawn_link(fun() -> Self ! {Ref, Fun()} end),
            Ref
        end
     || Fun <- Funs
    ],
    [
        receive
            {Ref, Result} -> Result
        after ?BOUND -> timeout
        end
     || Ref <- Refs
    ].

async_test_() ->
    [
        with(fun(P) ->
            ok = call(P, collect, []),
            [ok = python:call(P, 'erlport_sample', 'received.append', [N], [async]) || N <- lists:seq(1, 500)],
            ?assertEqual(lists:seq(1, 500), call(P, collected, []))
        end),
        quiet(fun() ->
            P = start([]),
            ok = python:call(P, unknown, unknown, [], [async]),
            ?assertMatch(
                {async_call_error, {python, 'builtins.ModuleNotFoundError', "No module named 'unknown'", [_ | _]}},
                exit_of(P)
            )
        end),
        quiet(fun() ->
            P = start([{call_timeout, 50}]),
            File = file("never"),
            ok = python:call(P, erlport_sample, wait_for, [File], [async]),
            ?assertEqual(timeout, exit_of(P))
        end)
    ].

file(Name) ->
    filename:join(
        os:getenv("TMPDIR", "/tmp"),
        lists:concat(["typhon-erlport-", os:getpid(), "-", erlang:unique_integer([positive]), "-", Name])
    ).

timeout_test_() ->
    [
        with(fun(P) ->
            File = file("go"),
            ?assertError(timeout, python:call(P, erlport_sample, wait_for, [File], [{timeout, 50}])),
            %% What it runs goes on, and then the next one has its turn.
            ok = file:write_file(File, <<>>),
            ?assertEqual(4, python:call(P, operator, add, [2, 2])),
            file:delete(File),
            ?assertEqual({messages, []}, process_info(self(), messages))
        end),
        with([{call_timeout, 50}], fun(P) ->
            File = file("go"),
            ?assertError(timeout, call(P, wait_for, [File])),
            ok = file:write_file(File, <<>>),
            ?assertEqual(there, python:call(P, erlport_sample, wait_for, [File], [{timeout, infinity}])),
            file:delete(File)
        end)
    ].

%% --- nesting ---

nesting_test_() ->
    [
        with(fun(P) -> ?assertEqual(done, call(P, recurse, [P, 50])) end),
        with(fun(P) -> ?assertEqual(42, call(P, ask_twice, [P])) end),
        with(fun(P) ->
            ?assertEqual(
                lists:duplicate(20, done),
                parallel([fun() -> call(P, recurse, [P, 5]) end || _ <- lists:seq(1, 20)])
            )
        end),
        with(fun(P) -> ?assertEqual(lists:seq(0, 19), call(P, from_threads, [20])) end),
        with(fun(P) ->
            %% Two instances call each other.
            Q = start([]),
            ?assertEqual(7, call(P, call_erlang, [python, call, [Q, operator, add, [3, 4]]])),
            unlink(Q),
            stop(Q)
        end),
        with(fun(P) ->
            %% A message that comes while a call waits is handled then.
            ok = call(P, collect, []),
            Self = self(),
            ?assertEqual(sent, call(P, call_erlang, [?MODULE, identity, [sent]])),
            P ! {from, Self},
            ?assertEqual([{from, Self}], call(P, collected, []))
        end)
    ].

%% --- errors ---

error_test_() ->
    [
        with(fun(P) ->
            ?assertMatch(
                {python, 'builtins.ValueError', "my message", [_ | _]},
                catch_error(fun() -> call(P, fail, ["my message"]) end)
            ),
            {python, 'builtins.KeyError', "Atom(b'bottom')", Frames} = catch_error(fun() -> call(P, fail_deep, [2]) end),
            %% The innermost frame comes first.
            ?assertEqual(3, length(Frames)),
            ?assertMatch({match, _}, re:run(hd(Frames), "raise KeyError")),
            ?assertMatch({match, _}, re:run(lists:last(Frames), "return fail_deep")),
            ?assertMatch(
                {python, 'builtins.SystemExit', "3", [_ | _]}, catch_error(fun() -> call(P, raise_exit, []) end)
            ),
            ?assertMatch(
                {python, 'builtins.ModuleNotFoundError', "No module named 'unknown'", [_ | _]},
                catch_error(fun() -> python:call(P, unknown, unknown, []) end)
            ),
            ?assertMatch(
                {python, 'builtins.AttributeError', _, [_ | _]},
                catch_error(fun() -> python:call(P, os, no_such_thing, []) end)
            ),
            ?assertMatch(
                {python, 'builtins.ValueError', "result: unsupported data type: function" ++ _, [_ | _]},
                catch_error(fun() -> call(P, unpicklable, []) end)
            ),
            ?assertMatch(
                {python, 'io.UnsupportedOperation', "readline", [_ | _]},
                catch_error(fun() -> python:call(P, builtins, input, []) end)
            ),
            %% A map that has a key twice.
            ?assertMatch({cannot_decode_result, _, _}, catch_error(fun() -> call(P, many_keys, []) end)),
            ?assertEqual(4, python:call(P, operator, add, [2, 2]))
        end),
        with(fun(P) ->
            ?assertMatch(
                {python, 'erlport.erlang.CallError',
                    "(Atom(b'erlang'), Atom(b'error'), Atom(b'undef'), List([(Atom(b'unknown'), Atom(b'unknown'), List([])" ++ _,
                    [_ | _]},
                catch_error(fun() -> call(P, call_erlang, [unknown, unknown, []]) end)
            ),
            ?assertEqual({erlang, error, undef, true}, call(P, caught, [unknown, unknown, []])),
            ?assertEqual({erlang, throw, ball, true}, call(P, caught, [erlang, throw, [ball]])),
            ?assertEqual({erlang, exit, normal, true}, call(P, caught, [erlang, exit, [normal]])),
            %% An error of Python's that went through the BEAM stays one of Python's.
            ?assertEqual(
                {python, 'builtins.ValueError', "here", true},
                call(P, caught, [?MODULE, error_of_python, [P, "here"]])
            ),
            ?assertMatch(
                {python, 'builtins.ValueError', _, _},
                catch_error(fun() -> call(P, call_erlang, [<<"no atom">>, f, []]) end)
            )
        end),
        with([{call_timeout, 100}], fun(P) ->
            %% What Python asks has the same limit. Nobody waits for ever.
            ?assertEqual(
                {erlang, exit, killed, true},
                python:call(P, erlport_sample, caught, [timer, sleep, [infinity]], [{timeout, infinity}])
            )
        end),
        with(fun(P) ->
            %% What it calls may end the process that was to answer, in whatever way.
            ?assertEqual({erlang, exit, normal, true}, python:call(P, erlport_sample, caught, [?MODULE, quit, []])),
            ?assertEqual({erlang, exit, killed, true}, python:call(P, erlport_sample, caught, [?MODULE, vanish, []])),
            ?assertEqual(4, python:call(P, operator, add, [2, 2]))
        end),
        quiet(fun() ->
            P = start([]),
            ok = call(P, faulty_handler, []),
            P ! test_message,
            ?assertMatch(
                {message_handler_error, {python, 'builtins.ValueError', "Atom(b'test_message')", [_ | _]}},
                exit_of(P)
            )
        end)
    ].

catch_error(Fun) ->
    try
        {returned, Fun()}
    catch
        error:Error -> Error
    end.

%% Who waits when Python ends is told.
end_test_() ->
    [
        quiet(fun() ->
            P = start([]),
            ?assertError({port_closed, {code, 7}}, call(P, leave, [7])),
            ?assertEqual({port_closed, {code, 7}}, exit_of(P))
        end),
        quiet(fun() ->
            P = start([]),
            ?assertError({port_closed, _}, call(P, kill_myself, [])),
            ?assertMatch({port_closed, _}, exit_of(P))
        end),
        quiet(fun() ->
            %% From outside, with many that wait: one is running, the others have not begun.
            P = start([]),
            OsPid = call_os_pid(P),
            Self = self(),
            Waiting = file("never"),
            Callers = [
                spawn_monitor(fun() ->
                    exit({ended, catch_error(fun() -> call(P, wait_for, [Waiting]) end)})
                end)
             || _ <- lists:seq(1, 20)
            ],
            Self ! go,
            receive
                go -> ok
            end,
            os:cmd("kill -9 " ++ integer_to_list(OsPid)),
            ?assertMatch({port_closed, _}, exit_of(P)),
            [
                receive
                    %% One that comes too late finds nobody.
                    {'DOWN', Monitor, process, _, Reason} ->
                        ?assert(
                            case Reason of
                                {ended, {port_closed, _}} -> true;
                                {noproc, _} -> true;
                                {{port_closed, _}, _} -> true;
                                _ -> false
                            end
                        )
                after ?BOUND -> error(hangs)
                end
             || {_, Monitor} <- Callers
            ]
        end),
        quiet(fun() ->
            P = start([]),
            File = file("started"),
            Never = file("never"),
            {_, Monitor} = spawn_monitor(fun() ->
                %% The file may be seen, and the instance stopped, before the first call has its answer.
                Calls = fun() -> call(P, touch, [File]), call(P, wait_for, [Never]) end,
                exit({ended, catch_error(Calls)})
            end),
            until(fun() -> filelib:is_regular(File) end),
            stop(P),
            file:delete(File),
            receive
                {'DOWN', Monitor, process, _, Reason} ->
                    ?assert(lists:member(element(1, Reason), [ended, noproc, normal])),
                    Reason =:= {ended, stopped} orelse ?assertNotMatch({ended, _}, Reason)
            after ?BOUND -> error(hangs)
            end
        end)
    ].

until(Fun) -> until(Fun, ?BOUND div 10).
until(_, 0) -> error(timeout);
until(Fun, N) ->
    case Fun() of
        true ->
            ok;
        false ->
            timer:sleep(10),
            until(Fun, N - 1)
    end.

%% User code finds the options of the pipe there, and nothing of Typhon's.
arguments_test_() ->
    with([{packet, 2}, {compressed, 1}], fun(P) ->
        [Program | Options] = call(P, arguments, []),
        ?assertEqual("cli.py", filename:basename(Program)),
        ?assertEqual(["--packet=2", "--use_stdio", "--compressed=1", "--buffer_size=65536"], Options)
    end).

start_error_test_() ->
    [
        quiet(fun() ->
            ?assertMatch({error, {invalid_option, {python, "no_such_python"}, not_found}}, python:start([{python, "no_such_python"}])),
            ?assertMatch({error, {unknown_option, bad}}, python:start([bad]))
        end),
        quiet(fun() ->
            %% It says that it is a Python, and ends: so does the instance.
            Python = slow_python("exit 3"),
            {ok, P} = python:start_link([{python, Python}]),
            open(Python),
            ?assertEqual({port_closed, {code, 3}}, exit_of(P)),
            ?assertExit({noproc, _}, python:call(P, operator, add, [1, 2])),
            %% Whoever waits for it is told, also by way of gen_server, as from another node.
            {ok, Q} = python:start_link([{python, Python}]),
            Call = fun(Function) -> spawn_monitor(fun() -> exit({ended, catch_any(Function)}) end) end,
            Callers = [
                Call(fun() -> python:call(Q, operator, add, [1, 2]) end),
                Call(fun() -> gen_server:call(Q, {call, operator, add, [1, 2], []}, infinity) end)
            ],
            until(fun() -> waiting(Q) >= 2 end),
            open(Python),
            [?assertMatch({ended, {_, {port_closed, {code, 3}}}}, reason_of(Monitor)) || {_, Monitor} <- Callers],
            ?assertEqual({port_closed, {code, 3}}, exit_of(Q)),
            close(Python)
        end)
    ].

%% Of an instance that is there, and a Python that is not ready before this test says so.
slow_start_test_() ->
    [
        {timeout, 120, fun() ->
            Python = slow_python("exec python3 \"$@\""),
            {ok, P} = python:start([{python, Python}, {python_path, py_dir()}]),
            ok = python:cast(P, early),
            P ! earlier_than_a_call,
            Early = file("early"),
            ok = python:call(P, erlport_sample, touch, [Early], [async]),
            %% A limit counts from the call on. What was given up is not run.
            ?assertError(timeout, python:call(P, operator, add, [1, 2], [{timeout, 20}])),
            ?assertEqual({error, timeout}, gen_server:call(P, {call, operator, add, [1, 2], [{timeout, 20}]})),
            Self = self(),
            [spawn_link(fun() -> Self ! {sum, N, python:call(P, operator, add, [N, N])} end) || N <- lists:seq(1, 20)],
            spawn_link(fun() -> Self ! {sum, 21, element(2, gen_server:call(P, {call, operator, add, [21, 21], []}, infinity))} end),
            open(Python),
            [
                receive
                    {sum, N, Sum} -> ?assertEqual(2 * N, Sum)
                after ?BOUND -> error(hangs)
                end
             || N <- lists:seq(1, 21)
            ],
            ?assertEqual(4, python:call(P, operator, add, [2, 2])),
            ?assert(filelib:is_regular(Early)),
            file:delete(Early),
            stop(P),
            close(Python)
        end},
        {timeout, 120, fun() ->
            %% What it was given before it is stopped it deals with when it is ready.
            Python = slow_python("exec python3 \"$@\""),
            {ok, P} = python:start([{python, Python}, {python_path, py_dir()}]),
            Late = file("late"),
            ok = python:call(P, erlport_sample, touch, [Late], [async]),
            ok = python:stop(P),
            timer:sleep(1200),
            ?assert(is_process_alive(P)),
            open(Python),
            ?assertEqual(normal, await_end(P)),
            ?assert(filelib:is_regular(Late)),
            file:delete(Late),
            close(Python)
        end},
        quiet(fun() ->
            %% With nothing to do it is stopped at once, and callers are told.
            Python = slow_python("exec python3 \"$@\""),
            {ok, P} = python:start_link([{python, Python}]),
            {_, Monitor} = spawn_monitor(fun() -> exit({ended, catch_any(fun() -> python:call(P, operator, add, [1, 2]) end)}) end),
            until(fun() -> waiting(P) > 0 end),
            ok = python:stop(P),
            ?assertEqual({ended, {error, stopped}}, reason_of(Monitor)),
            ?assertEqual(normal, exit_of(P)),
            {ok, Q} = python:start_link([{python, Python}]),
            {_, Monitor2} = spawn_monitor(fun() -> exit({ended, catch_any(fun() -> python:call(Q, operator, add, [1, 2]) end)}) end),
            until(fun() -> waiting(Q) > 0 end),
            exit(Q, kill),
            ?assertMatch({ended, {exit, {killed, {gen_server, call, _}}}}, reason_of(Monitor2)),
            close(Python)
        end),
        quiet(fun() ->
            %% It does not take for ever.
            Python = slow_python("exec python3 \"$@\""),
            {ok, P} = python:start_link([{python, Python}, {start_timeout, 500}]),
            OsPid = call_port_pid(P),
            ?assertError(start_timeout, python:call(P, operator, add, [1, 2])),
            ?assertEqual(start_timeout, exit_of(P)),
            gone(OsPid),
            close(Python)
        end)
    ].

%% Says its version, and goes on with Then when open/1 has been called.
slow_python(Then) ->
    File = file("slow-python"),
    os:cmd("rm -f " ++ File ++ ".gate && mkfifo " ++ File ++ ".gate"),
    ok = file:write_file(File, [
        "#!/bin/sh\n[ \"$1\" = -V ] && echo Python 3.12.0 && exit\nread line < ", File, ".gate\n", Then, "\n"
    ]),
    ok = file:change_mode(File, 8#755),
    File.

open(File) -> os:cmd("echo go > " ++ File ++ ".gate").

close(File) ->
    file:delete(File),
    file:delete(File ++ ".gate").

%% How many callers wait for it to be ready.
waiting(P) -> queue:len(element(3, element(6, sys:get_state(P)))).

catch_any(Fun) ->
    try
        {returned, Fun()}
    catch
        exit:{Reason, {gen_server, call, [_, {call, _, _, _, _}, _]}} when Reason =/= killed, Reason =/= noproc -> {exit, Reason};
        Class:Reason -> {Class, Reason}
    end.

quit() -> exit(self(), normal).

vanish() ->
    {links, Links} = process_info(self(), links),
    [unlink(Link) || Link <- Links],
    exit(self(), kill).

reason_of(Monitor) ->
    receive
        {'DOWN', Monitor, process, _, Reason} -> Reason
    after ?BOUND -> hangs
    end.

call_port_pid(P) ->
    {os_pid, OsPid} = erlang:port_info(element(4, sys:get_state(P)), os_pid),
    OsPid.

%% --- messages ---

message_test_() ->
    [
        with(fun(P) ->
            ok = call(P, forward_to, [self()]),
            ok = python:cast(P, first),
            P ! second,
            ok = erlport:cast(P, {third, "x", <<"y">>, #{k => v}}),
            ?assertEqual({got, first}, receive_one()),
            ?assertEqual({got, second}, receive_one()),
            ?assertEqual({got, {third, "x", <<"y">>, #{k => v}}}, receive_one())
        end),
        with(fun(P) ->
            %% A call comes behind what its process has sent before.
            ok = call(P, collect, []),
            [
                case N rem 2 of
                    0 -> P ! N;
                    1 -> ok = python:cast(P, N)
                end
             || N <- lists:seq(1, 2000)
            ],
            ?assertEqual(lists:seq(1, 2000), call(P, collected, []))
        end),
        with(fun(P) ->
            %% More than the ring holds, while Python is busy.
            ok = call(P, collect, []),
            File = file("go"),
            ok = python:call(P, erlport_sample, wait_for, [File], [async]),
            Message = binary:copy(<<"x">>, 10000),
            [python:cast(P, {N, Message}) || N <- lists:seq(1, 500)],
            ok = file:write_file(File, <<>>),
            Got = call(P, collected, []),
            file:delete(File),
            ?assertEqual(lists:seq(1, 500), [N || {N, _} <- Got])
        end),
        {timeout, 120, fun() ->
            %% What it has been given before it is stopped it deals with.
            {ok, P} = python:start([{python, "python3"}, {python_path, py_dir()}]),
            ok = call(P, forward_to, [self()]),
            File = file("touched"),
            [ok = python:cast(P, N) || N <- lists:seq(1, 100)],
            ok = python:call(P, erlport_sample, touch, [File], [async]),
            ok = python:stop(P),
            ?assertEqual(normal, await_end(P)),
            ?assertEqual([{got, N} || N <- lists:seq(1, 100)], [receive_one() || _ <- lists:seq(1, 100)]),
            ?assert(filelib:is_regular(File)),
            file:delete(File),
            %% But not for ever.
            {ok, Q} = python:start([{python, "python3"}, {python_path, py_dir()}]),
            OsPid = call_os_pid(Q),
            ok = python:call(Q, erlport_sample, wait_for, [file("never")], [async]),
            ok = python:stop(Q),
            ?assertMatch(Reason when Reason =:= normal; Reason =:= noproc, await_end(Q)),
            gone(OsPid)
        end},
        with(fun(P) ->
            ok = call(P, asking_handler, [self()]),
            [P ! -N || N <- lists:seq(1, 100)],
            %% A handler that waits for the BEAM has the next message on top of it.
            ?assertEqual(lists:seq(1, 100), lists:sort([receive_one() || _ <- lists:seq(1, 100)]))
        end),
        with(fun(P) ->
            ?assertEqual(done, call(P, cast_many, [self(), 1000])),
            ?assertEqual(lists:seq(0, 999), [receive_one() || _ <- lists:seq(1, 1000)]),
            ?assertEqual(undefined, python:call(P, 'erlport.erlang', cast, [self(), a_message])),
            ?assertEqual(a_message, receive_one())
        end),
        with(fun(P) ->
            register(erlport_receiver, self()),
            undefined = python:call(P, 'erlport.erlang', cast, [erlport_receiver, to_a_name]),
            ?assertEqual(to_a_name, receive_one()),
            unregister(erlport_receiver)
        end),
        quiet(fun() ->
            P = start([]),
            %% Sent before the call returns.
            ?assertError({send_error, {error, badarg}}, python:call(P, 'erlport.erlang', cast, [no_such_process, lost])),
            ?assertEqual({send_error, {error, badarg}}, exit_of(P))
        end),
        with(fun(P) ->
            ?assertEqual(P, call(P, own_pid, [])),
            ?assertEqual(P, python:call(P, 'erlport.erlang', self, [])),
            ok = call(P, collect, []),
            undefined = call(P, send_self, [again]),
            until(fun() -> call(P, collected, []) =:= [again] end),
            %% What it sends to itself is for its handler, whatever it looks like, and by whatever name.
            register(erlport_itself, P),
            [
                begin
                    ok = call(P, collect, []),
                    undefined = python:call(P, 'erlport.erlang', cast, [To, Message]),
                    until(fun() -> call(P, collected, []) =:= [Message] end)
                end
             || To <- [P, erlport_itself],
                Message <- [
                    {system, {init, stop}, suspend},
                    {'$gen_cast', stop},
                    {'$gen_call', 1, sync},
                    {'EXIT', 1, kill},
                    {typhon, 1, {flood, text}},
                    {timeout, 1, {typhon_erlport, stop}}
                ]
            ],
            Ref = python:call(P, 'erlport.erlang', make_ref, []),
            ?assert(is_reference(Ref)),
            ?assertNotEqual(Ref, python:call(P, 'erlport.erlang', make_ref, []))
        end),
        with(fun(P) ->
            ?assertEqual(
                ["ok", "ok", "ok", "ValueError", "ValueError", "TypeError", "ok"], call(P, handlers, [])
            )
        end)
    ].

%% --- data types ---

terms() ->
    [0, 1, -1, 255, 256, 100000, -100000, 1 bsl 31, -(1 bsl 31), 1 bsl 63, 1 bsl 64, -(1 bsl 64), 2 bsl 2040, -(2 bsl 2040)] ++
        [0.0, 0.5, -0.5, 3.1415926, 1.0e300] ++
        ['', test, 'TEST', true, false, undefined, nil, 'with space', '\x{e4}', '\x{43f}\x{440}',
            list_to_atom(lists:duplicate(255, $a)), list_to_atom(lists:duplicate(255, 16#43f))] ++
        [[], [0], [1, 2, 3], [[]], [[], [], []], "text", [256], lists:seq(1, 10000), lists:seq(-10, 10), lists:duplicate(70000, 7)] ++
        [[0 | 1], [1, 2, 3 | 4], [head | tail], [[a | b] | c]] ++
        [{}, {0}, {1, 2, 3}, {{}}, {{}, {}}, list_to_tuple(lists:seq(1, 10000))] ++
        [<<>>, <<"test">>, <<0, 1, 255>>, binary:copy(<<1>>, 1000000)] ++
        [#{}, #{a => 1}, #{<<"a">> => [1], {b} => #{}, [c] => "x", 1.5 => y}, maps:from_list([{N, N} || N <- lists:seq(1, 1000)])] ++
        [#{'__struct__' => 'Elixir.Date', year => 1}, #{'__struct__' => 'Elixir.Typhon.Bytes', data => <<1>>},
            #{'__struct__' => 'Elixir.Typhon.Object', id => 1}, #{'__struct__' => x}] ++
        [self(), [{pid, self()}], <<1:2>>, <<5:13>>, make_ref(), fun erlang:is_atom/1, hd(erlang:ports())] ++
        [fun(X) -> X end, {'$erlport.opaque', ruby, <<"data">>}, #{self() => make_ref()}].

datatype_test_() ->
    [
        with(fun(P) -> [?assertEqual(Term, call(P, identity, [Term])) || Term <- terms()] end),
        with(fun(P) ->
            %% The other way round: through a function of the BEAM that Python calls.
            [?assertEqual(Term, call(P, call_erlang, [?MODULE, identity, [Term]])) || Term <- terms()]
        end),
        with(fun(P) ->
            Described = fun(Term) -> unicode:characters_to_binary(call(P, describe, [Term])) end,
            ?assertEqual(<<"Atom Atom(b'test')">>, Described(test)),
            ?assertEqual(<<"Atom Atom(b'nil')">>, Described(nil)),
            ?assertEqual(<<"NoneType None">>, Described(undefined)),
            ?assertEqual(<<"bool True">>, Described(true)),
            ?assertEqual(<<"bytes b'x'">>, Described(<<"x">>)),
            ?assertEqual(<<"List List([97, 98])">>, Described("ab")),
            ?assertEqual(<<"List List([])">>, Described([])),
            ?assertEqual(<<"List List([List([1000]), ()])">>, Described([[1000], {}])),
            ?assertEqual(<<"tuple (1, Atom(b'a'))">>, Described({1, a})),
            ?assertEqual(<<"Map Map({Atom(b'k'): List([118])})">>, Described(#{k => "v"})),
            ?assertEqual(<<"ImproperList ImproperList([1, 2], 3)">>, Described([1, 2 | 3])),
            %% In the other quotes when its number has such a byte.
            ?assertMatch(
                <<"OpaqueObject OpaqueObject(b", Quote, _/binary>> when Quote =:= $'; Quote =:= $", Described(self())),
            ?assertEqual(<<"OpaqueObject OpaqueObject(b'd', Atom(b'ruby'))">>, Described({'$erlport.opaque', ruby, <<"d">>}))
        end),
        with(fun(P) ->
            ?assertEqual(
                {undefined, true, false, nil, <<"bytes">>, [1, 2], [1000], {}, #{}, #{k => "v"}, [1 | 2], 1.5, 1 bsl 70},
                call(P, several, [])
            ),
            ?assertEqual(
                ["", "ascii", [16#e4, 16#ff], [16#41f, 16#440, 16#438], [16#1f600], lists:duplicate(70000, $x),
                    lists:duplicate(70000, 16#e4)],
                call(P, texts, [])
            ),
            ?assertEqual([#{<<"a">> => [1, [2]]}, {'$erlport.opaque', other, <<"data">>}], call(P, make_all, []))
        end),
        with(fun(P) ->
            Point = call(P, point, [1, "two"]),
            ?assertMatch({'$erlport.opaque', python, Pickle} when is_binary(Pickle), Point),
            ?assertEqual(true, call(P, is_point, [Point, 1, "two"])),
            ?assertEqual(Point, call(P, identity, [Point])),
            Points = call(P, points, [100]),
            ?assertEqual(100, length(Points)),
            ?assertEqual(Points, call(P, identity, [Points])),
            Q = start([]),
            ?assertEqual(true, call(Q, is_point, [Point, 1, "two"])),
            unlink(Q),
            stop(Q),
            ?assertMatch(
                {python, 'builtins.ValueError', _, _},
                catch_error(fun() -> call(P, identity, [{'$erlport.opaque', python, <<"no pickle">>}]) end)
            )
        end),
        with([{env, [{"TYPHON_ERLPORT_UNPICKLE", "0"}]}], fun(P) ->
            Point = call(P, point, [1, 2]),
            ?assertEqual(false, call(P, is_point, [Point, 1, 2])),
            ?assertEqual(Point, call(P, identity, [Point]))
        end),
        with(fun(P) ->
            ?assertMatch(
                {python, 'builtins.ValueError', _, _},
                catch_error(fun() -> call(P, identity, [#{1 => a, 1.0 => b}]) end)
            ),
            Deep = lists:foldl(fun(_, Term) -> [Term] end, [], lists:seq(1, 5000)),
            ?assertEqual(Deep, call(P, identity, [Deep]))
        end)
    ].

custom_datatype_test_() ->
    with(fun(P) ->
        ok = call(P, set_dates, []),
        ?assertEqual({date, {2013, 2, 1}}, python:call(P, operator, add, [{date, {2013, 1, 31}}, {days, 1}])),
        ?assertEqual(31, call(P, tomorrow_of, [{date, {2013, 1, 31}}])),
        ?assertMatch(
            {python, 'builtins.ValueError', _, [_ | _]},
            catch_error(fun() -> call(P, identity, [{date, {2013, 13, 1}}]) end)
        ),
        ok = call(P, unset_dates, []),
        ?assertEqual({date, {2013, 13, 1}}, call(P, identity, [{date, {2013, 13, 1}}])),
        ?assertMatch({'$erlport.opaque', python, _}, python:call(P, datetime, date, [2013, 2, 1]))
    end).

%% --- output ---

output_test_() ->
    [
        {timeout, 120, fun() ->
            Printed = output(fun() ->
                P = start([]),
                undefined = call(P, print_string, ["HELLO!"]),
                undefined = call(P, print_string, [[16#41f, 16#440, 16#438, 16#432, 16#435, 16#442, $!]]),
                unlink(P),
                stop(P)
            end),
            ?assertEqual(<<"HELLO!\n", "\x{41f}\x{440}\x{438}\x{432}\x{435}\x{442}!\n"/utf8>>, Printed)
        end},
        {timeout, 120, fun() ->
            Printed = output(fun() ->
                P = start([]),
                %% Printed when the call returns.
                Printing = call(P, print_and_cast, [self()]),
                ?assertEqual(undefined, Printing),
                ?assertEqual(cast, receive_one()),
                undefined = call(P, print_much, [5000]),
                unlink(P),
                stop(P)
            end),
            ?assertEqual(14 + 5000 * 100, byte_size(Printed))
        end},
        {timeout, 120, fun() ->
            Printed = output(fun() ->
                P = start([]),
                undefined = call(P, print_in_child, []),
                until(fun() -> byte_size(printed()) >= byte_size(<<"child\nparent\n">>) end),
                unlink(P),
                stop(P)
            end),
            ?assertEqual([<<>>, <<"child">>, <<"parent">>], lists:usort(binary:split(Printed, <<"\n">>, [global])))
        end},
        {timeout, 120, fun() ->
            Lines = [
                binary:split(output(fun() ->
                    P = start([]),
                    undefined = call(P, print_all, []),
                    %% It does not disturb anything.
                    ?assertEqual(4, python:call(P, operator, add, [2, 2])),
                    %% What a child prints comes by the pipe, not in order with the calls.
                    until(fun() -> byte_size(printed()) >= byte_size(<<"one\ntwo\nthree \x{20ac}\nfour"/utf8>>) end),
                    unlink(P),
                    stop(P)
                end), <<"\n">>, [global])
            ],
            ?assertEqual([<<>>, <<"four">>, <<"one">>, <<"three \x{20ac}"/utf8>>, <<"two">>],
                lists:usort([<<>> | split_four(hd(Lines))]))
        end}
    ].

%% "four" has no end of its own, and may come before either of the others.
split_four(Lines) ->
    lists:append([
        case Line of
            <<"four", Rest/binary>> -> [<<"four">>, Rest];
            _ -> [Line]
        end
     || Line <- Lines
    ]).

%% --- options that ErlPort's programs give ---

option_test_() ->
    [
        with(Options, fun(P) ->
            ?assertEqual(<<"ab">>, python:call(P, operator, add, [<<"a">>, <<"b">>])),
            ?assertMatch(
                {python, 'io.UnsupportedOperation', "readline", _},
                catch_error(fun() -> python:call(P, builtins, input, []) end)
            )
        end)
     || Options <- [[nouse_stdio], [use_stdio], [{packet, 1}], [{packet, 2}], [{compressed, 9}], [{buffer_size, 1}],
            [{start_timeout, ?BOUND}], [{env, [{"A", "b"}, {"HOME", false}]}]]
    ] ++
        [
            with([{cd, "/"}, {env, [{"TYPHON_A", "b"}, {"HOME", false}]}], fun(P) ->
                ?assertEqual("/", python:call(P, os, getcwd, [])),
                ?assertEqual("b", call(P, environment, ["TYPHON_A"])),
                ?assertEqual(undefined, call(P, environment, ["HOME"]))
            end)
        ].

%% --- as a gen_server ---

process_test_() ->
    [
        quiet(fun() ->
            %% The end of who started it ends it.
            Self = self(),
            Starter = spawn(fun() ->
                Self ! {started, start([])},
                receive
                    stop -> exit(done)
                end
            end),
            P =
                receive
                    {started, Pid} -> Pid
                end,
            Monitor = monitor(process, P),
            OsPid = call_os_pid(P),
            Starter ! stop,
            receive
                {'DOWN', Monitor, process, P, Reason} -> ?assertEqual(done, Reason)
            after ?BOUND -> error(lives)
            end,
            gone(OsPid)
        end),
        with(fun(P) ->
            ?assertMatch({unknown_call, _, bad, _}, gen_server:call(P, bad)),
            %% What others send it directly, as ErlPort's own functions did.
            ?assertEqual({ok, 4}, gen_server:call(P, {call, operator, add, [2, 2], []})),
            ?assertMatch({error, {python, _, _, _}}, gen_server:call(P, {call, unknown, unknown, [], []})),
            ?assertMatch({status, P, _, _}, sys:get_status(P))
        end),
        with(fun(P) ->
            %% No message of its own is left behind with a caller.
            [?assertError(_, call(P, fail, ["x"])) || _ <- lists:seq(1, 100)],
            ?assertEqual({messages, []}, process_info(self(), messages))
        end)
    ].
