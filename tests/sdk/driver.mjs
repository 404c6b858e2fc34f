// Drives the official JavaScript SDK against a server: every method of client.engines, a task's run, and what of the
// rest of the API the SDK can reach. One JSON line per step: {method, ok, value} or {method, ok, error, status, body}.
//
// API_URL and API_KEY say where; PLAN is JSON: {engine, worker, team}.

import { Inference, StreamManager, StreamableManager } from '@inferencesh/sdk';

const PATIENCE = 30_000; // ms for one step
const LATER = 50; // ms between two looks

const { API_URL, API_KEY } = process.env;
const plan = JSON.parse(process.env.PLAN);
const client = new Inference({ apiKey: API_KEY, baseUrl: API_URL });
const engines = client.engines;

async function step(method, act) {
  let line;
  try {
    const value = await bounded(act(), method);
    line = { method, ok: true, value: value === undefined ? null : value, nothing: value === undefined };
  } catch (error) {
    line = { method, ok: false, error: String(error.message ?? error), status: error.statusCode ?? null, body: error.responseBody ?? null };
  }
  process.stdout.write(JSON.stringify(line) + '\n');
  return line.ok ? line.value : null;
}

function bounded(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${PATIENCE} ms`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function until(condition) {
  const limit = Date.now() + PATIENCE;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > limit) throw new Error(`waited in vain for ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, LATER));
  }
}

const data = async (answer) => (await answer).data;
const read = (path) => data(client.http.request('get', path));
const settled = (id, ...statuses) => until(async () => {
  const engine = await data(engines.get(id));
  return statuses.includes(engine.status) && engine;
});

// Follow a stream while `act` changes something, until `enough` of what came in. `stir` is done until the first does.
async function followed(open, act, enough, stir = () => null) {
  const seen = [];
  const errors = [];
  const manager = open({ onData: (one) => seen.push(one), onError: (error) => errors.push(String(error)) });
  try {
    await until(async () => (await stir(), seen.length || errors.length));
    await act();
    await until(() => enough(seen) || errors.length);
  } finally {
    manager.stop();
  }
  // An event source calls the end of a stream an error too.
  if (errors.length && !enough(seen)) throw new Error(errors.join('; '));
  return seen;
}

function events(createEventSource) {
  return (handlers) => {
    const manager = new StreamManager({ createEventSource, autoReconnect: false, ...handlers });
    manager.connect();
    return manager;
  };
}

function lines(path) {
  return (handlers) => {
    const manager = new StreamableManager({ ...client.http.getStreamableConfig(path), ...handlers });
    manager.start();
    return manager;
  };
}

async function reading() {
  await step('list', () => data(engines.list()));
  await step('list page', () => data(engines.list({ limit: 1, sort: [{ field: 'created_at', dir: 'asc' }] })));
  await step('get', () => data(engines.get(plan.engine)));
  await step('get unknown', () => data(engines.get('eng_none')));
  await step('getForResources', () => data(engines.getForResources({ app_ids: ['sleep'] })));
  await step('with a wrong key', () => new Inference({ apiKey: 'inf_wrong', baseUrl: API_URL }).engines.list());
}

async function streaming() {
  const renamed = (name) => () => engines.update(plan.engine, { name });
  const has = (name) => (seen) => seen.some((engine) => engine.name === name);
  await step('stream', () => followed(events(() => engines.stream(plan.engine)), renamed('by-events'), has('by-events')));
  await step('stream ndjson', () => followed(lines(`/engines/${plan.engine}/stream`), renamed('by-lines'), has('by-lines')));
  await step('stream unknown', () => followed(events(() => engines.stream('eng_none')), () => null, () => false));
  // What happened before it opened it does not tell, and it does not say when it is open: so change more than once.
  await step('events', () => followed(lines('/events'), () => null, has('host-1'), renamed('host-1')));
}

async function running() {
  const sleep = (seconds) => ({ app: 'sleep', input: { seconds } });
  const updates = [];
  await step('run', async () => {
    const task = await client.run({ ...sleep(0.5), workers: [plan.worker] }, { onUpdate: (one) => updates.push(one.status) });
    return { task, updates };
  });
  await step('run polled', () => client.run(sleep(0.2), { stream: false, pollIntervalMs: 100 }));
  await step('run without input', () => client.run({ app: 'sleep' }, { wait: false }));
  await step('run failing', () => client.run({ app: 'sleep', input: { seconds: 'many' } }));
  const task = await step('run unwatched', () => client.run(sleep(600), { wait: false }));
  const ended = (seen) => seen.some((one) => one.status >= 10);
  await step('cancel', () => followed(events(() => client.streamTask(task.id)), () => client.cancel(task.id), ended));
  await step('task', () => data(client.getTask(task.id)));
  await step('task logs', () => data(client.tasks.getLogs(task.id)));
  await step('tasks', () => data(client.tasks.list({ limit: 2 })));
  await step('run of a cancelled task', async () => {
    const other = await client.run(sleep(600), { wait: false });
    const [watched] = await Promise.allSettled([client.tasks.watch(other).done, client.cancel(other.id)]);
    if (watched.reason) throw watched.reason;
    return watched.value;
  });
}

async function making() {
  const made = await step('create', () => data(engines.create({ name: 'made-by-sdk' })));
  await step('update', () => data(engines.update(made.id, { ...made, name: 'renamed-by-sdk' })));
  await step('updateVisibility', () => data(engines.updateVisibility(made.id, 'private')));
  await step('updateVisibility unknown', () => data(engines.updateVisibility(made.id, 'everywhere')));
  await step('transferOwnership nowhere', () => data(engines.transferOwnership(made.id, 'team_none')));
  await step('delete', () => data(engines.delete(made.id)));
  await step('get deleted', () => data(engines.get(made.id)));
  const given = await step('create to give', () => data(engines.create({ name: 'to-give' })));
  await step('transferOwnership', () => data(engines.transferOwnership(given.id, plan.team)));
}

// An hour's machine of the first type that is to be had.
async function offer() {
  const types = await read('/instances/types');
  const { cloud, shade_instance_type, availability } = types.find((type) => type.availability.some((one) => one.available));
  const { region } = availability.find((one) => one.available);
  const date_threshold = new Date(Date.now() + 3_600_000).toISOString();
  return { instance: { cloud, region, shade_instance_type, rental_type: 'on_demand' }, auto_delete: { date_threshold } };
}

async function clouding() {
  const made = await step('create in a cloud', async () => data(engines.create({ name: 'cloudy', ...(await offer()) })));
  await step('cloud active', () => until(async () => {
    const engine = await data(engines.get(made.id));
    return engine.instance?.status === 'active' && engine.status === 'running' && engine;
  }));
  await step('extend', () => data(engines.extend(made.id)));
  await step('extend by hours', () => data(client.http.request('post', `/engines/${made.id}/extend`, { data: { additional_hours: 2 } })));
  await step('restart', () => data(engines.restart(made.id)));
  await step('restarted', () => settled(made.id, 'running'));
  await step('stop', () => data(engines.stop(made.id)));
  await step('cloud stopped', () => settled(made.id, 'stopped'));
  await step('delete from a cloud', () => data(engines.delete(made.id)));
}

async function ending() {
  await step('restart self-hosted', () => data(engines.restart(plan.engine)));
  await step('extend self-hosted', () => data(client.http.request('post', `/engines/${plan.engine}/extend`, { data: { additional_hours: 1 } })));
  await step('updateBinary', () => data(engines.updateBinary(plan.engine)));
  await step('updated', () => until(async () => {
    const engine = await data(engines.get(plan.engine));
    return engine.engine_version === 'v1.3.0' && engine.status === 'running' && engine;
  }));
  await step('delete running', () => data(engines.delete(plan.engine)));
  await step('drain', () => data(engines.drain(plan.engine)));
  await step('drained', () => settled(plan.engine, 'stopped'));
  await step('drain stopped', () => data(engines.drain(plan.engine)));
  await step('stop stopped', () => data(engines.stop(plan.engine)));
  await step('run on nothing', () => client.run({ app: 'sleep', input: {}, workers: [plan.worker] }, { wait: false }));
}

async function around() {
  await step('me', () => data(client.teams.me()));
  const key = await step('key', () => data(client.apiKeys.create({ name: 'by-sdk', scopes: ['engines:read'] })));
  await step('keys', () => data(client.apiKeys.list()));
  await step('made key', () => data(new Inference({ apiKey: key.key, baseUrl: API_URL }).engines.list({ limit: 1 })));
  await step('made key drains', () => data(new Inference({ apiKey: key.key, baseUrl: API_URL }).engines.drain(plan.engine)));
  await step('delete key', () => data(client.apiKeys.delete(key.id)));
  await step('deleted key', () => data(new Inference({ apiKey: key.key, baseUrl: API_URL }).engines.list()));
  for (const path of ['/scopes', '/billing', '/billing/balance', '/instances/types', '/engines/releases']) {
    await step(path, () => read(path));
  }
}

for (const part of [reading, streaming, running, making, clouding, around, ending]) await part().catch(() => null);
process.exit(0);
