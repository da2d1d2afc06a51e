%% Options of ErlPort's instances: checked in one place for every language, with ErlPort's defaults and errors.
%%
%% What differs between languages is a row of language/1. Charlists are what these options are made of; a binary (a string of
%% Elixir's) or an atom will do wherever one may stand for the same.
-module(typhon_erlport_options).

-export([parse/2, record/3, timeout/1, command/1]).

-export_type([language/0, option/0, options/0, parsed/0]).

-type language() :: python | ruby.

-type option() ::
    use_stdio
    | nouse_stdio
    | {compressed, 0..9}
    | {packet, 1 | 2 | 4}
    | {cd, text()}
    | {env, [{text(), text() | false}]}
    | {start_timeout, timeout()}
    | {call_timeout, timeout()}
    | {buffer_size, pos_integer()}
    %% {python, _}, {python_path, _}, {ruby, _}, {ruby_lib, _}
    | {atom(), text() | atom() | [text()]}.

-type options() :: [option()].

-type text() :: string() | binary().

%% `command`: the interpreter's absolute path, and what was written behind it; `path`: where it looks for modules.
-type parsed() :: #{
    command := string(),
    path := string(),
    cd := undefined | string(),
    use_stdio := use_stdio | nouse_stdio,
    compressed := 0..9,
    packet := 1 | 2 | 4,
    env := [{string(), string() | false}],
    port_options := [term()],
    start_timeout := pos_integer() | infinity,
    call_timeout := pos_integer() | infinity,
    buffer_size := pos_integer()
}.

%% How long an interpreter may take to say its version, in milliseconds.
-define(VERSION_TIMEOUT, 15000).

language(python) ->
    #{
        command => python,
        path => python_path,
        %% Debian has no `python`.
        defaults => ["python", "python3"],
        command_variable => "ERLPORT_PYTHON",
        path_variable => "PYTHONPATH",
        library => "python",
        version_flag => "-V",
        version => "^Python ([0-9]+)\\.([0-9]+)",
        oldest => {3, 11},
        not_found => python_not_found,
        unsupported => unsupported_python_version,
        invalid => invalid_python
    };
language(ruby) ->
    #{
        command => ruby,
        path => ruby_lib,
        defaults => ["ruby"],
        command_variable => "ERLPORT_RUBY",
        path_variable => "RUBYLIB",
        library => "ruby",
        version_flag => "-v",
        version => "^ruby ([0-9]+)\\.([0-9]+)",
        oldest => {3, 1},
        not_found => ruby_not_found,
        unsupported => unsupported_ruby_version,
        invalid => invalid_ruby
    }.

-spec parse(language(), options()) -> {ok, parsed()} | {error, term()}.
parse(Language, Options) when is_list(Options) ->
    Table = language(Language),
    try
        Given = lists:foldl(fun(Option, Seen) -> maps:merge(Seen, option(Option, Table)) end, defaults(), Options),
        {ok, complete(Given, Table)}
    catch
        throw:{?MODULE, Reason} -> {error, Reason}
    end.

%% The same as a record of ErlPort's: python.hrl and ruby.hrl have its fields.
-spec record(atom(), language(), options()) -> {ok, tuple()} | {error, term()}.
record(Name, Language, Options) ->
    case parse(Language, Options) of
        {ok, Parsed} -> {ok, list_to_tuple([Name | [maps:get(Field, Parsed) || Field <- fields()]])};
        {error, _} = Error -> Error
    end.

%% In their order.
fields() ->
    [command, cd, use_stdio, compressed, packet, env, path, port_options, start_timeout, call_timeout, buffer_size].

-spec timeout(term()) -> {ok, pos_integer() | infinity} | error.
timeout(infinity) -> {ok, infinity};
timeout(Timeout) when is_integer(Timeout), Timeout > 0 -> {ok, Timeout};
timeout(_) -> error.

%% The program and its own arguments. A path that has spaces is one when there is such a file.
-spec command(string()) -> {string(), [string()]}.
command(Command) ->
    case filelib:is_regular(Command) of
        true ->
            {Command, []};
        false ->
            [Program | Arguments] = string:lexemes(Command, " "),
            {Program, Arguments}
    end.

-spec refuse(term()) -> no_return().
refuse(Reason) -> throw({?MODULE, Reason}).

defaults() ->
    #{
        command => default,
        path => [],
        cd => undefined,
        use_stdio => use_stdio,
        compressed => 0,
        packet => 4,
        env => [],
        start_timeout => 10000,
        call_timeout => infinity,
        buffer_size => 65536
    }.

%% What an option says.
option({Name, Value}, #{command := Name}) ->
    #{command => Value};
option({Name, Value} = Option, #{path := Name}) ->
    #{path => paths(Value, Option)};
option(Stdio, _) when Stdio =:= use_stdio; Stdio =:= nouse_stdio ->
    #{use_stdio => Stdio};
option({compressed, Level}, _) when is_integer(Level), Level >= 0, Level =< 9 ->
    #{compressed => Level};
option({packet, Packet}, _) when Packet =:= 1; Packet =:= 2; Packet =:= 4 ->
    #{packet => Packet};
option({cd, Path} = Option, _) when is_list(Path); is_binary(Path) ->
    case filelib:is_dir(Path) of
        true -> #{cd => text(Path)};
        false -> refuse({invalid_option, Option})
    end;
option({env, Env} = Option, _) when is_list(Env) ->
    case [Entry || Entry <- Env, not is_variable(Entry)] of
        [] -> #{env => [{text(Name), value(Value)} || {Name, Value} <- Env]};
        Invalid -> refuse({invalid_option, Option, Invalid})
    end;
option({env, _} = Option, _) ->
    refuse({invalid_option, Option, not_list});
option({Name, Timeout} = Option, _) when Name =:= start_timeout; Name =:= call_timeout ->
    case timeout(Timeout) of
        {ok, Timeout} -> #{Name => Timeout};
        error -> refuse({invalid_option, Option})
    end;
option({buffer_size, Size}, _) when is_integer(Size), Size > 0 ->
    #{buffer_size => Size};
option({Name, _} = Option, _) when Name =:= compressed; Name =:= packet; Name =:= cd; Name =:= buffer_size ->
    refuse({invalid_option, Option});
option(Option, _) ->
    refuse({unknown_option, Option}).

is_variable({Name, Value}) -> is_text(Name) andalso (Value =:= false orelse is_text(Value));
is_variable(_) -> false.

is_text(Text) -> is_binary(Text) orelse io_lib:char_list(Text).

text(Text) when is_binary(Text) ->
    case unicode:characters_to_list(Text) of
        List when is_list(List) -> List;
        %% A file's name need not be UTF-8.
        _ -> binary_to_list(Text)
    end;
text(Text) ->
    Text.

value(false) -> false;
value(Value) -> text(Value).

%% One string with paths in it, or a list of paths.
paths(Path, _Option) when is_binary(Path) -> split(text(Path));
paths([], Option) -> refuse({invalid_option, Option, invalid_path});
paths([First | _] = Path, Option) when is_integer(First) ->
    case [Character || Character <- Path, not is_integer(Character)] of
        [] -> split(Path);
        Invalid -> refuse({invalid_option, Option, Invalid})
    end;
paths([First | _] = Paths, Option) when is_list(First); is_binary(First) ->
    case [Path || Path <- Paths, not (is_list(Path) orelse is_binary(Path))] of
        [] -> [text(Path) || Path <- Paths];
        Invalid -> refuse({invalid_option, Option, Invalid})
    end;
paths(Paths, Option) when is_list(Paths) -> refuse({invalid_option, Option, invalid_path});
paths(_, Option) -> refuse({invalid_option, Option, not_list}).

split(Path) -> string:lexemes(Path, ":").

complete(Given, Table) ->
    #{command := Command, path := Path, env := Env, cd := Cd, packet := Packet, use_stdio := UseStdio} = Given,
    #{path_variable := Variable} = Table,
    Found = find(Command, Table),
    {OfEnv, OtherEnv} = lists:partition(fun({Name, _}) -> Name =:= Variable end, Env),
    Paths =
        libraries(Table) ++ Path ++ lists:append([split(Value) || {_, Value} <- OfEnv, Value =/= false]) ++
            split(os:getenv(Variable, "")),
    Joined = lists:flatten(lists:join(":", unique(Paths))),
    WholeEnv = [{Variable, Joined} | OtherEnv],
    Given#{
        command := Found,
        path := Joined,
        env := WholeEnv,
        port_options =>
            [{env, WholeEnv}, {packet, Packet}] ++ [nouse_stdio || UseStdio =:= nouse_stdio] ++
                [{cd, Cd} || Cd =/= undefined] ++ [binary, hide, exit_status]
    }.

%% The language's package of ErlPort's, which is this application's, and the one of Typhon's that it stands on.
libraries(#{library := Library}) ->
    Below = 'Elixir.Typhon.Native':priv_path(list_to_binary(Library)),
    [filename:absname(filename:join(priv_dir(), Library)), unicode:characters_to_list(Below)].

priv_dir() ->
    case code:priv_dir(erlport) of
        %% The modules lie in a folder that is not called after the application.
        {error, bad_name} -> filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Dir -> Dir
    end.

%% As they are written: a path may lie in an archive.
unique(Paths) ->
    {Unique, _} = lists:foldl(
        fun(Path, {List, Seen}) ->
            case Path =:= "" orelse is_map_key(Path, Seen) of
                true -> {List, Seen};
                false -> {[Path | List], Seen#{Path => true}}
            end
        end,
        {[], #{}},
        Paths
    ),
    lists:reverse(Unique).

%% --- the interpreter ---

find(default, #{command_variable := Variable, defaults := Defaults, not_found := NotFound} = Table) ->
    case os:getenv(Variable, "") of
        "" ->
            case first([find_command(Default, Table) || Default <- Defaults]) of
                {ok, Found} -> Found;
                not_found -> refuse(NotFound);
                {error, Reason} -> refuse(Reason)
            end;
        Command ->
            case find_command(Command, Table) of
                {ok, Found} -> Found;
                not_found -> refuse({invalid_env_var, {Variable, Command}, not_found});
                {error, Reason} -> refuse(Reason)
            end
    end;
find(Command, #{command := Name} = Table) ->
    case is_name(Command) andalso find_command(name(Command), Table) of
        {ok, Found} -> Found;
        not_found -> refuse({invalid_option, {Name, Command}, not_found});
        {error, Reason} -> refuse(Reason);
        false -> refuse({invalid_option, {Name, Command}})
    end.

%% The first one that will do, else what is wrong with the first one that is there.
first(Results) ->
    Good = [Result || {ok, _} = Result <- Results],
    Bad = [Result || {error, _} = Result <- Results],
    hd(Good ++ Bad ++ [not_found]).

is_name(Name) when is_atom(Name) -> Name =/= '';
is_name(Name) -> Name =/= "" andalso Name =/= <<>> andalso is_text(Name).

name(Name) when is_atom(Name) -> atom_to_list(Name);
name(Name) -> text(Name).

find_command(Command, Table) ->
    case os:find_executable(Command) of
        false ->
            {Program, Options} = lists:splitwith(fun(Character) -> Character =/= $\s end, Command),
            case Program =/= "" andalso os:find_executable(Program) of
                false -> not_found;
                Found -> check_version(filename:absname(Found), Options, Table)
            end;
        Found ->
            check_version(filename:absname(Found), "", Table)
    end.

check_version(Program, Options, Table) ->
    #{version := Pattern, oldest := Oldest, unsupported := Unsupported, invalid := Invalid} = Table,
    Said = version(Program, Table),
    case re:run(Said, Pattern, [{capture, all_but_first, list}]) of
        {match, [Major, Minor]} ->
            case {list_to_integer(Major), list_to_integer(Minor)} >= Oldest of
                true -> {ok, Program ++ Options};
                false -> {error, {Unsupported, Said}}
            end;
        nomatch ->
            {error, {Invalid, Program}}
    end.

%% The first line that it prints.
version(Program, #{version_flag := Flag}) ->
    case 'Elixir.Typhon.Program':run(Program, [Flag], ?VERSION_TIMEOUT) of
        {Text, Status} when is_integer(Status) -> binary_to_list(hd(binary:split(Text, [<<"\r">>, <<"\n">>])));
        _ -> ""
    end.
