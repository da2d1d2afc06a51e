%% What python_options:parse/1 returns. Names and order of the fields are those of ErlPort's record of that name, for
%% programs that match on it.
-ifndef(PYTHON_HRL).
-define(PYTHON_HRL, true).

-record(python_options, {
    python = default :: default | string(),
    cd :: undefined | string(),
    use_stdio = use_stdio :: use_stdio | nouse_stdio,
    compressed = 0 :: 0..9,
    packet = 4 :: 1 | 2 | 4,
    env = [] :: [{string(), string() | false}],
    python_path = [] :: string() | [string()],
    port_options = [] :: [term()],
    start_timeout = 10000 :: pos_integer() | infinity,
    call_timeout = infinity :: pos_integer() | infinity,
    buffer_size = 65536 :: pos_integer()
}).

-endif.
