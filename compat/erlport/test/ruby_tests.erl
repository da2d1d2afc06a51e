%% -*- coding: utf-8 -*-
%% The module ruby, as ErlPort's documentation describes it.
-module(ruby_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/ruby.hrl").

%% Ruby calls this.
-export([recurse/2]).

%% What waits for another process waits so long before it is a failure.
-define(BOUND, 60000).

recurse(Instance, N) -> ruby:call(Instance, ruby_sample, recurse, [Instance, N]).

start(Options) ->
    {ok, R} = ruby:start_link([{ruby_lib, filename:absname("test/rb")} | Options]),
    R.

stop(R) ->
    unlink(R),
    Monitor = monitor(process, R),
    ok = ruby:stop(R),
    receive
        {'DOWN', Monitor, process, R, _} -> ok
    end.

with(Test) -> with([], Test).
with(Options, Test) ->
    {timeout, 120, fun() ->
        R = start(Options),
        try
            Test(R)
        after
            stop(R)
        end
    end}.

%% An instance is there before its Ruby is ready, and the first call waits for that.
slow_start_test_() ->
    {timeout, 120, fun() ->
        File = filename:join(os:getenv("TMPDIR", "/tmp"), "typhon-slow-ruby-" ++ os:getpid()),
        os:cmd("rm -f " ++ File ++ ".gate && mkfifo " ++ File ++ ".gate"),
        ok = file:write_file(File, [
            "#!/bin/sh\n[ \"$1\" = -v ] && exec ruby -v\nread line < ", File, ".gate\nexec ruby \"$@\"\n"
        ]),
        ok = file:change_mode(File, 8#755),
        R = start([{ruby, File}]),
        ?assertError(timeout, ruby:call(R, '', 'Integer::sqrt', [16], [{timeout, 20}])),
        Self = self(),
        spawn_link(fun() -> Self ! {root, ruby:call(R, '', 'Integer::sqrt', [16])} end),
        os:cmd("echo go > " ++ File ++ ".gate"),
        ?assertEqual(
            {root, 4},
            receive
                Root -> Root
            after ?BOUND -> hangs
            end
        ),
        stop(R),
        file:delete(File),
        file:delete(File ++ ".gate")
    end}.

%% An instance that ends is waited for.
ends(Test, Expected) ->
    {timeout, 120, fun() ->
        #{level := Level} = logger:get_primary_config(),
        logger:set_primary_config(level, none),
        process_flag(trap_exit, true),
        try
            R = start([]),
            Test(R),
            Reason =
                receive
                    {'EXIT', R, Why} -> Why
                after ?BOUND -> timeout
                end,
            ?assert(Expected(Reason))
        after
            process_flag(trap_exit, false),
            logger:set_primary_config(level, Level)
        end
    end}.

got() ->
    receive
        Message -> Message
    after ?BOUND -> timeout
    end.

start_test_() ->
    {timeout, 120, fun() ->
        {ok, _} = ruby:start({local, ruby_instance}),
        ?assertEqual(3, ruby:call(ruby_instance, '', 'Integer', [<<"3">>])),
        ?assertEqual(ok, ruby:stop(ruby_instance)),
        {ok, R} = ruby:start_link(),
        stop(R)
    end}.

calls_test_() ->
    with(fun(R) ->
        ?assertEqual(4, ruby:call(R, ruby_sample, add, [2, 2])),
        ?assertEqual(<<"ab">>, ruby:call(R, ruby_sample, add, [<<"a">>, <<"b">>])),
        ?assertEqual(42, ruby:call(R, ruby_sample, 'Outer::Inner::answer', [])),
        ?assertEqual(<<"1.0">>, ruby:call(R, 'rss/atom', 'RSS::Atom::Feed::new::version', [])),
        ?assertEqual('АБ', ruby:call(R, ruby_sample, to_symbol, [[16#410, 16#411]])),
        ?assertEqual(done, ruby:call(R, ruby_sample, recurse, [R, 50])),
        ?assertEqual(R, ruby:call(R, 'erlport/erlang', 'ErlPort::Erlang::self', [])),
        ?assert(is_reference(ruby:call(R, 'erlport/erlang', 'ErlPort::Erlang::make_ref', []))),
        ?assertEqual(3, ruby:call(R, 'erlport/erlang', 'ErlPort::Erlang::call', [erlang, length, [[1, 2, 3]]])),
        ?assertEqual(ok, ruby:call(R, ruby_sample, add, [1, 2], [async])),
        ?assertError(timeout, ruby:call(R, ruby_sample, pause, [1], [{timeout, 50}]))
    end).

options_test_() ->
    [with(Options, fun(R) -> ?assertEqual(3, ruby:call(R, ruby_sample, add, [1, 2])) end)
     || Options <- [[nouse_stdio], [{packet, 1}], [{compressed, 9}], [{cd, "/"}], [{env, [{"A", "b"}]}]]].

parallel_test_() ->
    with(fun(R) ->
        Self = self(),
        [spawn_link(fun() -> Self ! {N, ruby:call(R, ruby_sample, add, [N, 1])} end) || N <- lists:seq(1, 50)],
        [?assertEqual(N + 1, receive {N, Sum} -> Sum after ?BOUND -> timeout end) || N <- lists:seq(1, 50)]
    end).

values_test_() ->
    with(fun(R) ->
        Values = [
            [], [1, 2, 3], "abc", [[]], [1 | 2], {}, {1, {2}}, a, true, false, undefined, nil, 'грусть', 0, -1, 255, 256,
            1 bsl 31, -(1 bsl 31), 1 bsl 64, -(1 bsl 2048), 0.0, -1.5, <<>>, <<"data">>, <<255>>, <<1:3>>, self(), make_ref(),
            fun erlang:length/1, fun() -> ok end, #{}, #{a => 1, <<"b">> => [2], {3} => #{}}, {'$erlport.opaque', java, <<"x">>},
            lists:seq(1, 100000), binary:copy(<<"x">>, 1000000)
        ],
        [?assertEqual(Value, ruby:call(R, ruby_sample, identity, [Value])) || Value <- Values],
        ?assertEqual('Array', ruby:call(R, ruby_sample, kind, ["abc"])),
        ?assertEqual('String', ruby:call(R, ruby_sample, kind, [<<"abc">>])),
        ?assertEqual('NilClass', ruby:call(R, ruby_sample, kind, [undefined])),
        ?assertEqual('Symbol', ruby:call(R, ruby_sample, kind, [nil])),
        ?assertEqual('ErlPort::ErlTerm::Tuple', ruby:call(R, ruby_sample, kind, [{1}])),
        ?assertEqual('ErlPort::ErlTerm::ImproperList', ruby:call(R, ruby_sample, kind, [[1 | 2]])),
        ?assertEqual('ErlPort::ErlTerm::OpaqueObject', ruby:call(R, ruby_sample, kind, [self()])),
        {'$erlport.opaque', ruby, Data} = Object = ruby:call(R, ruby_sample, object, []),
        ?assert(is_binary(Data)),
        ?assertEqual(3, ruby:call(R, ruby_sample, object_size, [Object]))
    end).

not_unmarshalled_test_() ->
    with([{env, [{"TYPHON_ERLPORT_UNPICKLE", "0"}]}], fun(R) ->
        Object = ruby:call(R, ruby_sample, object, []),
        ?assertEqual('ErlPort::ErlTerm::OpaqueObject', ruby:call(R, ruby_sample, kind, [Object]))
    end).

custom_types_test_() ->
    with(fun(R) ->
        ?assertEqual(ok, ruby:call(R, ruby_sample, dates, [])),
        ?assertEqual({date, {2013, 2, 1}}, ruby:call(R, ruby_sample, add, [{date, {2013, 1, 31}}, 86400])),
        ?assertEqual(ok, ruby:call(R, ruby_sample, no_dates, [])),
        ?assertEqual({date, {2013, 1, 31}}, ruby:call(R, ruby_sample, identity, [{date, {2013, 1, 31}}]))
    end).

errors_test_() ->
    with(fun(R) ->
        ?assertError({ruby, 'LoadError', <<"cannot load such file -- unknown">>, [_ | _]}, ruby:call(R, unknown, unknown, [])),
        ?assertError({ruby, 'ArgumentError', <<"no">>, [_ | _]}, ruby:call(R, ruby_sample, fail_with, [<<"no">>])),
        ?assertError({ruby, 'NoMethodError', _, [_ | _]}, ruby:call(R, ruby_sample, 'Outer::nothing', [])),
        ?assertError(
            {ruby, 'ErlPort::Erlang::CallError', <<"Tuple([:erlang, :error, :undef, ", _/binary>>, [_ | _]},
            ruby:call(R, ruby_sample, call_erlang, [unknown, unknown, []])
        ),
        ?assertError(
            {ruby, 'ErlPort::Erlang::CallError', <<"Tuple([:ruby, :LoadError, ", _/binary>>, [_ | _]},
            ruby:call(R, ruby_sample, call_erlang, [ruby, call, [R, unknown, unknown, []]])
        ),
        ?assertError({ruby, 'ValueError', _, [_ | _]}, ruby:call(R, ruby_sample, call_erlang, [<<"erlang">>, node, []])),
        ?assertError(
            {ruby, 'IOError', <<"STDIN is closed for ErlPort connected process">>, [_ | _]},
            ruby:call(R, '', 'ARGF::read', [])
        )
    end).

messages_test_() ->
    with(fun(R) ->
        ?assertEqual(undefined, ruby:call(R, 'erlport/erlang', 'ErlPort::Erlang::cast', [self(), hello])),
        ?assertEqual(hello, got()),
        ?assertEqual(kablam, ruby:call(R, ruby_sample, register, [self()])),
        ok = ruby:cast(R, {yo, "Hi", #{k => "v"}}),
        ?assertEqual({yo, "Hi", #{k => "v"}}, got()),
        R ! raw,
        ?assertEqual(raw, got()),
        %% What it sends to itself is for its handler, whatever it looks like.
        [
            begin
                undefined = ruby:call(R, 'erlport/erlang', 'ErlPort::Erlang::cast', [R, Message]),
                ?assertEqual(Message, got())
            end
         || Message <- [{system, {init, stop}, suspend}, {'$gen_cast', stop}, {'EXIT', 1, kill}]
        ]
    end).

output_test_() ->
    with(fun(R) ->
        ?assertEqual(undefined, ruby:call(R, ruby_sample, print_codes, [[16#41f, $!]])),
        ?assertEqual(true, ruby:call(R, '', system, [<<"echo out of the way">>])),
        ?assertEqual(4, ruby:call(R, ruby_sample, add, [2, 2]))
    end).

ends_test_() ->
    [
        ends(
            fun(R) -> ok = ruby:call(R, unknown, unknown, [], [async]) end,
            fun(Reason) -> {async_call_error, {ruby, 'LoadError', _, _}} = Reason, true end
        ),
        ends(
            fun(R) ->
                ok = ruby:call(R, ruby_sample, register_faulty, []),
                R ! oops
            end,
            fun(Reason) -> {message_handler_error, {ruby, 'ValueError', <<"oops">>, [_ | _]}} = Reason, true end
        ),
        ends(
            fun(R) ->
                Pid = ruby:call(R, '', 'Process::pid', []),
                try ruby:call(R, '', 'Process::kill', ['KILL', Pid]) catch _:_ -> ok end
            end,
            fun(Reason) -> {port_closed, _} = Reason, true end
        )
    ].

parse_test_() ->
    [
        fun() ->
            {ok, Options} = ruby_options:parse([{ruby_lib, "/one"}]),
            #ruby_options{ruby = Ruby, ruby_lib = Path, env = Env, port_options = Port} = Options,
            ?assertMatch({match, _}, re:run(Ruby, "/ruby$")),
            ?assertMatch([_, _, "/one" | _], string:lexemes(Path, ":")),
            ?assertEqual([{"RUBYLIB", Path}], Env),
            ?assertEqual([{env, Env}, {packet, 4}, binary, hide, exit_status], Port),
            ?assertMatch(
                #ruby_options{cd = undefined, start_timeout = 10000, call_timeout = infinity, buffer_size = 65536},
                Options
            )
        end,
        ?_assertMatch({ok, #ruby_options{compressed = 0, packet = 4, use_stdio = use_stdio}}, ruby_options:parse([])),
        ?_assertMatch({ok, #ruby_options{cd = "/"}}, ruby_options:parse([{cd, "/"}])),
        ?_assertEqual({error, {invalid_option, {ruby, "nope"}, not_found}}, ruby_options:parse([{ruby, "nope"}])),
        ?_assertEqual({error, {unknown_option, {python, "x"}}}, ruby_options:parse([{python, "x"}])),
        ?_assertEqual({error, {invalid_option, {ruby_lib, 1}, not_list}}, ruby_options:parse([{ruby_lib, 1}])),
        ?_assertEqual({error, {invalid_option, {packet, 3}}}, ruby_options:parse([{packet, 3}]))
    ].
