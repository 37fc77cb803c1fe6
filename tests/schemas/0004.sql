BEGIN TRANSACTION;
CREATE TABLE bench_aggregates (
	id INTEGER NOT NULL, 
	cell_id INTEGER NOT NULL, 
	metric TEXT NOT NULL, 
	n BIGINT NOT NULL, 
	mean DOUBLE NOT NULL, 
	median DOUBLE NOT NULL, 
	stdev DOUBLE, 
	min DOUBLE NOT NULL, 
	max DOUBLE NOT NULL, 
	p10 DOUBLE NOT NULL, 
	p25 DOUBLE NOT NULL, 
	p50 DOUBLE NOT NULL, 
	p75 DOUBLE NOT NULL, 
	p90 DOUBLE NOT NULL, 
	p95 DOUBLE NOT NULL, 
	p99 DOUBLE NOT NULL, 
	CONSTRAINT pk_bench_aggregates PRIMARY KEY (id), 
	CONSTRAINT uq_bench_aggregates_cell_id_metric UNIQUE (cell_id, metric), 
	CONSTRAINT fk_bench_aggregates_cell_id FOREIGN KEY(cell_id) REFERENCES bench_cells (id) ON DELETE CASCADE
);
INSERT INTO "bench_aggregates" VALUES(1,1,'decode_tok_s',3,51.0,51.0,1.0,50.0,52.0,50.2,50.5,51.0,51.5,51.8,51.9,51.98);
INSERT INTO "bench_aggregates" VALUES(2,1,'ttft_ms',3,20.5,20.5,0.0,20.5,20.5,20.5,20.5,20.5,20.5,20.5,20.5,20.5);
INSERT INTO "bench_aggregates" VALUES(3,2,'decode_tok_s',3,51.0,51.0,1.0,50.0,52.0,50.2,50.5,51.0,51.5,51.8,51.9,51.98);
INSERT INTO "bench_aggregates" VALUES(4,2,'ttft_ms',3,20.5,20.5,0.0,20.5,20.5,20.5,20.5,20.5,20.5,20.5,20.5,20.5);
CREATE TABLE bench_baselines (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	cell_key TEXT NOT NULL, 
	cell_id INTEGER NOT NULL, 
	saved_at DATETIME NOT NULL, 
	reason TEXT NOT NULL, 
	replaced_at DATETIME, 
	cleared_reason TEXT, 
	CONSTRAINT pk_bench_baselines PRIMARY KEY (id), 
	CONSTRAINT fk_bench_baselines_cell_id FOREIGN KEY(cell_id) REFERENCES bench_cells (id) ON DELETE RESTRICT
);
INSERT INTO "bench_baselines" VALUES(1,'main','a6ae79cfe84541056e6bfdc2e4f4bfd0d959c0aa9cd5ca2fa79d8e4b3ea8c51c',1,'2026-09-21 14:14:20.000000','first',NULL,NULL);
INSERT INTO "bench_baselines" VALUES(2,'main','5d5e24e1f61b82e1585e582ed15bb6523abdc54644e3446663e4fee7a3a96b28',2,'2026-09-21 14:14:20.000000','first',NULL,NULL);
CREATE TABLE bench_cells (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	model TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	output_tokens BIGINT, 
	concurrency BIGINT NOT NULL, 
	sampling JSON NOT NULL, 
	request JSON NOT NULL, 
	cache TEXT NOT NULL, 
	length TEXT, 
	launch JSON, 
	depth_tokens BIGINT, 
	turns BIGINT, 
	rate DOUBLE, 
	turn_tokens BIGINT, 
	think_time_s DOUBLE, 
	arrival TEXT, 
	slo JSON, 
	prompts TEXT, 
	engine_build TEXT, 
	clock TEXT, 
	text_digest TEXT, 
	node_id TEXT NOT NULL, 
	cell_key TEXT NOT NULL, 
	started_at DATETIME NOT NULL, 
	total_tok_s DOUBLE, 
	load_ms DOUBLE, 
	extended TEXT NOT NULL, 
	reference_host TEXT, 
	error TEXT, 
	blocks BIGINT NOT NULL, 
	attempts BIGINT NOT NULL, 
	stalls BIGINT NOT NULL, 
	spoiled TEXT, 
	client_limit TEXT, 
	blanks JSON, 
	rates TEXT, 
	contradiction TEXT, 
	command TEXT, 
	driver TEXT, 
	rss_peak_mb DOUBLE, 
	vram_peak_mb DOUBLE, 
	server_log TEXT, 
	pairing TEXT, 
	hardware JSON, 
	logprobs JSON, 
	reference_rates JSON, 
	depth_ms DOUBLE, 
	of_blocks JSON, 
	cache_break TEXT, 
	canaries JSON NOT NULL, 
	worker TEXT NOT NULL, 
	in_flight_at_start BIGINT, 
	concurrent_foreign_requests BIGINT, 
	foreign_tokens BIGINT, 
	model_swaps BIGINT, 
	server_restarts BIGINT, 
	foreign_requests JSON, 
	traffic_notes JSON, 
	model_facts JSON, 
	reference_facts JSON, 
	samples BIGINT NOT NULL, 
	failed BIGINT NOT NULL, 
	CONSTRAINT pk_bench_cells PRIMARY KEY (id), 
	CONSTRAINT fk_bench_cells_run_id FOREIGN KEY(run_id) REFERENCES bench_runs (id) ON DELETE CASCADE
);
INSERT INTO "bench_cells" VALUES(1,1,'qwen','chat',64,8,1,'{"temperature": 0.5}','{"a": [1]}','cold',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'b1',NULL,NULL,'chat.boobench.yaml::rack-1::qwen[pp64-tg8-c1]','a6ae79cfe84541056e6bfdc2e4f4bfd0d959c0aa9cd5ca2fa79d8e4b3ea8c51c','2026-09-21 14:13:21.000000',12.5,900.0,'',NULL,NULL,1,1,0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL,'[{"copy_mb_s": 9000.0, "hash_mb_s": 500.0, "busy_share": null}]','main',1,NULL,NULL,0,0,'[{"id": "7", "model": null, "path": null, "user_agent": null, "address": null, "age_s": null, "queued": null}]','["late"]','{"name": "qwen", "path": null, "n_params": 8000000, "size_bytes": 16000000, "quantisation": "Q8_0", "n_ctx": null, "n_ctx_train": null, "n_embd": null, "n_vocab": null, "slots": null, "kv_type": null, "speculative": null, "gpu_percent": null}',NULL,3,0);
INSERT INTO "bench_cells" VALUES(2,1,'qwen','chat',64,8,4,'{"temperature": 0.5}','{"a": [1]}','cold',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'b1',NULL,NULL,'chat.boobench.yaml::rack-1::qwen[pp64-tg8-c1]','5d5e24e1f61b82e1585e582ed15bb6523abdc54644e3446663e4fee7a3a96b28','2026-09-21 14:13:24.000000',12.5,900.0,'',NULL,NULL,1,1,0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL,'[{"copy_mb_s": 9000.0, "hash_mb_s": 500.0, "busy_share": null}]','main',1,NULL,NULL,0,0,'[{"id": "7", "model": null, "path": null, "user_agent": null, "address": null, "age_s": null, "queued": null}]','["late"]','{"name": "qwen", "path": null, "n_params": 8000000, "size_bytes": 16000000, "quantisation": "Q8_0", "n_ctx": null, "n_ctx_train": null, "n_embd": null, "n_vocab": null, "slots": null, "kv_type": null, "speculative": null, "gpu_percent": null}',NULL,3,0);
CREATE TABLE bench_hosts (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	first_seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_bench_hosts PRIMARY KEY (id), 
	CONSTRAINT uq_bench_hosts_name UNIQUE (name)
);
INSERT INTO "bench_hosts" VALUES(1,'rack-1','2026-01-01 00:00:00.000000');
CREATE TABLE bench_leases (
	address TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	session TEXT NOT NULL, 
	taken_at DATETIME NOT NULL, 
	heartbeat_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	CONSTRAINT pk_bench_leases PRIMARY KEY (address)
);
CREATE TABLE bench_runs (
	id INTEGER NOT NULL, 
	uid TEXT NOT NULL, 
	host_id INTEGER NOT NULL, 
	suite_id INTEGER NOT NULL, 
	finished_at DATETIME, 
	session TEXT NOT NULL, 
	started_at DATETIME NOT NULL, 
	job_type TEXT NOT NULL, 
	user TEXT, 
	machine TEXT, 
	cpu TEXT, 
	git_commit TEXT, 
	git_dirty BOOLEAN, 
	ci JSON NOT NULL, 
	workers BIGINT NOT NULL, 
	plugin_version TEXT, 
	metadata JSON NOT NULL, 
	imported_from TEXT, 
	engine_build TEXT, 
	server_facts JSON, 
	model_facts JSON NOT NULL, 
	in_flight_at_start BIGINT, 
	concurrent_foreign_requests BIGINT, 
	takeover BOOLEAN NOT NULL, 
	status TEXT NOT NULL, 
	CONSTRAINT pk_bench_runs PRIMARY KEY (id), 
	CONSTRAINT ck_bench_runs_job_type CHECK (job_type IN ('bench', 'eval')), 
	CONSTRAINT ck_bench_runs_status CHECK (status IN ('running', 'finished', 'interrupted')), 
	CONSTRAINT uq_bench_runs_uid UNIQUE (uid), 
	CONSTRAINT fk_bench_runs_host_id FOREIGN KEY(host_id) REFERENCES bench_hosts (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_bench_runs_suite_id FOREIGN KEY(suite_id) REFERENCES bench_suites (id) ON DELETE RESTRICT
);
INSERT INTO "bench_runs" VALUES(1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',1,1,'2026-09-21 14:14:20.000000','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','2026-09-21 14:13:20.000000','bench','ann','desk','Z80','cccccccccccccccccccccccccccccccccccccccc',1,'{"system": "gitlab"}',2,'0.1.0','{}',NULL,'b1','{"kind": "llama-server", "url": "http://10.0.0.5:8080", "engine_build": "b1", "extra": {}}','{"qwen": {"name": "qwen", "path": null, "n_params": 8000000, "size_bytes": 16000000, "quantisation": "Q8_0", "n_ctx": null, "n_ctx_train": null, "n_embd": null, "n_vocab": null, "slots": null, "kv_type": null, "speculative": null, "gpu_percent": null}}',1,NULL,0,'finished');
CREATE TABLE bench_samples (
	id INTEGER NOT NULL, 
	cell_id INTEGER NOT NULL, 
	phase TEXT NOT NULL, 
	lane BIGINT NOT NULL, 
	"index" BIGINT NOT NULL, 
	block BIGINT NOT NULL, 
	attempt BIGINT NOT NULL, 
	reference BOOLEAN NOT NULL, 
	started_at DATETIME NOT NULL, 
	offset_ms DOUBLE NOT NULL, 
	connect_ms DOUBLE, 
	headers_ms DOUBLE, 
	ttft_ms DOUBLE, 
	ttfo_ms DOUBLE, 
	e2e_ms DOUBLE, 
	chunk_ms JSON NOT NULL, 
	prompt_tokens BIGINT, 
	cached_tokens BIGINT, 
	output_tokens BIGINT, 
	prompt_ms DOUBLE, 
	predicted_ms DOUBLE, 
	timings JSON NOT NULL, 
	decode_tok_s DOUBLE, 
	prefill_tok_s DOUBLE, 
	embed_tok_s DOUBLE, 
	rate_source TEXT, 
	finish_reason TEXT, 
	status BIGINT, 
	clock TEXT, 
	client_lag_ms DOUBLE, 
	blurred_chunks BIGINT NOT NULL, 
	clock_step BOOLEAN NOT NULL, 
	failure TEXT, 
	failure_text TEXT, 
	chunk_tokens JSON, 
	hidden_tokens BIGINT, 
	lanes_tok_s DOUBLE, 
	contradiction TEXT, 
	blanks JSON, 
	first_late_ms DOUBLE, 
	last_late_ms DOUBLE, 
	turn BIGINT, 
	send_lag_ms DOUBLE, 
	accepted_len DOUBLE, 
	draft_accept_share DOUBLE, 
	prompt_line BIGINT, 
	queue_ms DOUBLE, 
	stalls BIGINT NOT NULL, 
	CONSTRAINT pk_bench_samples PRIMARY KEY (id), 
	CONSTRAINT ck_bench_samples_phase CHECK (phase IN ('warmup', 'measure')), 
	CONSTRAINT fk_bench_samples_cell_id FOREIGN KEY(cell_id) REFERENCES bench_cells (id) ON DELETE CASCADE
);
INSERT INTO "bench_samples" VALUES(1,1,'warmup',0,0,1,1,0,'2026-09-21 14:13:20.000000',0.0,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,NULL,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,'[]',0,NULL,NULL,'{}',0.0,0.0,0,NULL,NULL,NULL,0,NULL,0);
INSERT INTO "bench_samples" VALUES(2,1,'measure',0,0,1,1,0,'2026-09-21 14:13:20.000000',0.0,NULL,NULL,20.5,NULL,NULL,'[20.5, 40.0]',NULL,NULL,NULL,NULL,NULL,'{}',50.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,'[]',0,NULL,NULL,'{}',0.0,0.0,0,NULL,NULL,NULL,0,NULL,0);
INSERT INTO "bench_samples" VALUES(3,1,'measure',0,1,1,1,0,'2026-09-21 14:13:21.000000',0.0,NULL,NULL,20.5,NULL,NULL,'[20.5, 40.0]',NULL,NULL,NULL,NULL,NULL,'{}',51.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,'[]',0,NULL,NULL,'{}',0.0,0.0,0,NULL,NULL,NULL,0,NULL,0);
INSERT INTO "bench_samples" VALUES(4,1,'measure',0,2,1,1,0,'2026-09-21 14:13:22.000000',0.0,NULL,NULL,20.5,NULL,NULL,'[20.5, 40.0]',NULL,NULL,NULL,NULL,NULL,'{}',52.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,'[]',0,NULL,NULL,'{}',0.0,0.0,0,NULL,NULL,NULL,0,NULL,0);
INSERT INTO "bench_samples" VALUES(5,2,'warmup',0,0,1,1,0,'2026-09-21 14:13:20.000000',0.0,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,NULL,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,'[]',0,NULL,NULL,'{}',0.0,0.0,0,NULL,NULL,NULL,0,NULL,0);
INSERT INTO "bench_samples" VALUES(6,2,'measure',0,0,1,1,0,'2026-09-21 14:13:20.000000',0.0,NULL,NULL,20.5,NULL,NULL,'[20.5, 40.0]',NULL,NULL,NULL,NULL,NULL,'{}',50.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,'[]',0,NULL,NULL,'{}',0.0,0.0,0,NULL,NULL,NULL,0,NULL,0);
INSERT INTO "bench_samples" VALUES(7,2,'measure',0,1,1,1,0,'2026-09-21 14:13:21.000000',0.0,NULL,NULL,20.5,NULL,NULL,'[20.5, 40.0]',NULL,NULL,NULL,NULL,NULL,'{}',51.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,'[]',0,NULL,NULL,'{}',0.0,0.0,0,NULL,NULL,NULL,0,NULL,0);
INSERT INTO "bench_samples" VALUES(8,2,'measure',0,2,1,1,0,'2026-09-21 14:13:22.000000',0.0,NULL,NULL,20.5,NULL,NULL,'[20.5, 40.0]',NULL,NULL,NULL,NULL,NULL,'{}',52.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,'[]',0,NULL,NULL,'{}',0.0,0.0,0,NULL,NULL,NULL,0,NULL,0);
CREATE TABLE bench_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT bench_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "bench_schema" VALUES('0004');
CREATE TABLE bench_suites (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	first_seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_bench_suites PRIMARY KEY (id), 
	CONSTRAINT uq_bench_suites_name UNIQUE (name)
);
INSERT INTO "bench_suites" VALUES(1,'smoke','2026-01-01 00:00:00.000000');
CREATE TABLE bench_verdicts (
	id INTEGER NOT NULL, 
	cell_id INTEGER NOT NULL, 
	metric TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	now DOUBLE, 
	baseline DOUBLE, 
	change DOUBLE, 
	allowed DOUBLE, 
	baseline_name TEXT, 
	reason TEXT NOT NULL, 
	fast_change DOUBLE, 
	noise DOUBLE, 
	run_noise DOUBLE, 
	sessions BIGINT, 
	samples BIGINT, 
	blocks BIGINT, 
	proven BOOLEAN NOT NULL, 
	note TEXT NOT NULL, 
	change_low DOUBLE, 
	change_high DOUBLE, 
	cause TEXT, 
	judged_at DATETIME NOT NULL, 
	CONSTRAINT pk_bench_verdicts PRIMARY KEY (id), 
	CONSTRAINT ck_bench_verdicts_outcome CHECK (outcome IN ('pass', 'regression', 'improvement', 'inconclusive', 'no baseline', 'not comparable')), 
	CONSTRAINT fk_bench_verdicts_cell_id FOREIGN KEY(cell_id) REFERENCES bench_cells (id) ON DELETE CASCADE
);
INSERT INTO "bench_verdicts" VALUES(1,1,'decode_tok_s','pass',51.0,50.0,0.02,0.1,NULL,'',NULL,NULL,NULL,NULL,NULL,NULL,0,'',NULL,NULL,'','2026-09-21 14:14:20.000000');
INSERT INTO "bench_verdicts" VALUES(2,2,'decode_tok_s','pass',51.0,50.0,0.02,0.1,NULL,'',NULL,NULL,NULL,NULL,NULL,NULL,0,'',NULL,NULL,'','2026-09-21 14:14:20.000000');
CREATE TABLE bench_votes (
	id INTEGER NOT NULL, 
	voted_at DATETIME NOT NULL, 
	prompt_sha256 TEXT NOT NULL, 
	sides JSON NOT NULL, 
	vote TEXT NOT NULL, 
	seed BIGINT, 
	blind BOOLEAN NOT NULL, 
	CONSTRAINT pk_bench_votes PRIMARY KEY (id), 
	CONSTRAINT ck_bench_votes_vote CHECK (vote IN ('a', 'b', 'c', 'd', 'tie', 'both bad'))
);
CREATE INDEX ix_bench_cells_cell_key_started_at ON bench_cells (cell_key, started_at);
CREATE INDEX ix_bench_cells_cell_key_engine_build_started_at ON bench_cells (cell_key, engine_build, started_at);
CREATE INDEX ix_bench_cells_run_id ON bench_cells (run_id);
CREATE INDEX ix_bench_samples_cell_id ON bench_samples (cell_id);
CREATE UNIQUE INDEX uq_bench_baselines_in_force ON bench_baselines (name, cell_key, cell_id) WHERE replaced_at IS NULL;
CREATE INDEX ix_bench_baselines_cell_id ON bench_baselines (cell_id);
CREATE INDEX ix_bench_verdicts_cell_id ON bench_verdicts (cell_id);
COMMIT;
