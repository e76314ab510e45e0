"""Limits of the running parts, each named once; relations between them are asserted below.

Seconds unless the name says otherwise. Limits that a user may set stand in the spec instead.
"""

BEAT_S = 2.0  # a node writes its presence this often
BEATS_ALIVE = 3  # presence older than this many beats means dead
ALIVE_S = BEAT_S * BEATS_ALIVE
POLL_LOG_S = 1.0  # a member probes the next record of its run's epochs
POLL_CLAIM_S = 1.0  # a training node without a run probes the pool log
POLL_MODEL_S = 2.0  # a replica probes the next live record
# A list request costs about 5e-6 USD on the clouds' price pages; 10 s is 360 an hour per lister.
LIST_IDLE_S = 10.0  # who watches presence lists this often once all expected nodes are there
LIST_BUSY_S = 1.0  # and this often while some are still missing

CHILD_STOP_S = 5.0  # from SIGTERM to SIGKILL for a child that holds no requests
WORKER_START_S = 120.0  # importing torch on a loaded machine
MEET_AGAIN_S = 0.005  # a member tries its epoch's store so often until the first member listens
INTERRUPT_AGAIN_S = 0.05  # a group that is given up is cut off so often until it has noticed
COLLECTIVE_S = 30.0  # a collective that takes longer has lost a peer
JOIN_GRACE_S = 30.0  # a claim this young without members is starting, not dead
REJOIN_S = 8.0  # with nothing in anybody's memory, restarted nodes wait this long for each other
LAG_S = 2.0  # a member that has not read the newest epoch by then is left out
TOLD_S = 10.0  # what the store told about others counts for so long after it was asked
TURN_S = 1.0  # a member proposes so much later than the one before it in rank
HEARTBEAT_S = 0.5  # between agents: a frozen peer is silent
LINK_S = 5.0  # to link up, and for any one answer on a link
LINKS_MAX = 512  # waiting to be taken
STATE_BYTES_PER_S = 1 << 30  # a live peer feeds a newcomer at most this fast
WATCHDOG_S_MIN = 4 * HEARTBEAT_S  # of a setting: fewer, and a busy machine looks frozen
RESTART_S = 1.0  # before a dead worker is started again; doubles up to RESTART_S_MAX
RESTART_S_MAX = 60.0

REQUEST_BODY_BYTES = 1 << 20
STREAM_PING_S = 10.0
READY_CHECK_S = 1.0  # the balancer asks /readyz this often
READY_CHECKS_DOWN = 2  # and takes a target out after this many failures
TEXT_BYTES_MAX = 256 << 20  # of a run's texts: a worker holds them all while it prepares them
DRAIN_NOTICE_S = READY_CHECK_S * READY_CHECKS_DOWN + 1.0  # not ready, still serving

# Object stores.
STORE_PATIENCE_S = 30.0  # a call is tried again for this long; who opens a store may say otherwise
CONTROL_PATIENCE_S = 5.0  # of who must decide: better to hear soon that nothing can be decided now
STORE_TRY_S = 10.0  # one request with its answer; a small patience allows less
STORE_TRY_SHARE = 0.3  # of the patience, so that three tries fit even if none is answered
STORE_TRIES_MAX = 1_000
STORE_PAUSE_S_MIN = 0.05  # between tries: doubled each time, then drawn from its upper half
STORE_PAUSE_S_MAX = 2.0
STORE_PART_BYTES = 8 << 20  # larger objects go up and come down in parts
STORE_PARTS_AT_ONCE = 4
STORE_PARTS_MAX = 10_000  # S3 takes no more
STORE_PART_S = 30.0  # one part on its way up
STORE_PART_RETRIES = 5
STORE_CHANGES_MAX = 3  # an object that was overwritten this often while it was read
assert STORE_TRY_SHARE * 3 < 1
assert STORE_PAUSE_S_MIN < STORE_PAUSE_S_MAX < STORE_TRY_S

BODY_READ_S = 30.0  # a request body that takes longer is a slow-loris
BODY_DISCARD_BYTES = 16 << 20  # read and dropped of a too large body, so that its sender hears why
SEND_S = 60.0  # a client that reads nothing for this long has lost its stream
KEEP_ALIVE_S = 75.0  # of an idle connection; a balancer must give up first, or it meets a reset
UPSTREAM_IDLE_S = 60.0  # a gateway closes an idle connection to a replica after this
CONNECT_S = 1.0  # to a replica: same network, so later means it is gone
REPLICA_WAIT_S = 1.0  # a request waits this long for a first ready replica, then 503
GATEWAY_OPEN_MAX = 1024  # requests open in one gateway
ATTEMPTS_MAX = 4  # replicas that one request is tried on
REPLICA_HUNG_S = 5.0  # a replica that answers nothing for this long is given up with all it holds
RETRY_BUDGET = 200  # retries at hand: what the death of one full replica may need at once
RETRY_SHARE = 0.2  # and each request adds this much
ENGINE_PING_S = 1.0  # a replica asks its engine this often
ENGINE_HUNG_S = 30.0  # silent for this long: killed; one step of a large model takes seconds
ENGINE_AGAIN_S_MAX = 10.0  # longest pause before an engine that keeps dying is started again
MODEL_AGAIN_S = 60.0  # a model version that could not be served is tried again after this

# Checkpoints
VERIFY_CHUNK_BYTES = 16 << 20  # read at once when a shard is verified
COMMIT_LOOKS_MAX = 5  # for a commit that is not deleted while it is read
COMMIT_GRACE_S = 600.0  # a replaced checkpoint stays this long: somebody may be reading it
ORPHAN_S = 24 * 3600.0  # shards in no manifest are garbage after this
WRITER_HUNG_S = 120.0  # a writer that has not written a shard for this long is killed
SPOOL_AGAIN_S = 2.0  # first pause between two tries of a checkpoint that the store won't take
SPOOL_AGAIN_S_MAX = 30.0  # and the longest
HOLD_S = 5.0  # a paused first member looks this often whether it must go on pausing
INTERVAL_S_MIN = 30.0  # between two checkpoints, however dear a failure is
INTERVAL_S_MAX = 1800.0  # and however cheap

assert CONNECT_S <= READY_CHECK_S
assert REPLICA_HUNG_S > READY_CHECK_S * READY_CHECKS_DOWN
assert UPSTREAM_IDLE_S < KEEP_ALIVE_S
assert STREAM_PING_S < SEND_S
assert LIST_BUSY_S <= BEAT_S <= LIST_IDLE_S
assert ALIVE_S < COLLECTIVE_S, "presence must tell before the collective's own deadline does"
assert REJOIN_S > ALIVE_S, "a restarted node must be able to be seen alive"
assert POLL_LOG_S + CONTROL_PATIENCE_S < TOLD_S
assert HEARTBEAT_S < TURN_S < LAG_S

# What a node asks of its cloud.
NOTICE_POLL_S = 1.0  # Azure asks for once a second, AWS for every 5 s; one beat serves all
METADATA_S = 2.0  # a metadata server is on the same host: later means that it is away
LEAVE_S = 25.0  # a node that has a notice is gone within this
NOTICE_S_MIN = 30.0  # the shortest that a cloud gives: GCP and Azure
NOTICE_AHEAD_S = 120.0  # a maintenance further off is not yet a reason to leave
CONTROL_S = 10.0  # one order to a cloud: a pool's size, a secret
CONTROL_TRIES = 5
CONTROL_AGAIN_S = 0.5  # first pause before it is tried again; doubled each time, then jittered
CONTROL_AGAIN_S_MAX = 8.0  # also the longest that a cloud's Retry-After is obeyed
TOKEN_MARGIN_S = 60.0  # a token this near its end is fetched anew
ANSWER_BYTES_MAX = 1 << 20

# Log lines on their way to the cloud.
LOG_SHIP_S = 2.0  # lines are gathered for so long before they are sent
LOG_LINES_MAX = 20_000  # that wait; of more the oldest are dropped
LOG_BYTES_MAX = 8 << 20  # of those that wait
LOG_LINE_BYTES_MAX = 64 << 10  # a longer one is cut
LOG_AGAIN_S = 1.0  # first pause after a try that failed; doubled each time
LOG_AGAIN_S_MAX = 60.0  # and the longest
LOG_FLUSH_S = 2.0  # a node that ends waits so long for its last lines

assert NOTICE_POLL_S + METADATA_S + LEAVE_S + LOG_FLUSH_S <= NOTICE_S_MIN
assert LOG_FLUSH_S < CHILD_STOP_S, "the least that a stop time allows for"
assert LOG_LINE_BYTES_MAX < LOG_BYTES_MAX

assert COMMIT_GRACE_S > 2 * COLLECTIVE_S, "a fenced node ends before it may delete"
assert COMMIT_GRACE_S < ORPHAN_S
assert SPOOL_AGAIN_S < SPOOL_AGAIN_S_MAX
assert HOLD_S < COLLECTIVE_S, "the others wait in a collective meanwhile"
assert INTERVAL_S_MIN < INTERVAL_S_MAX
