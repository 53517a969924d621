// Sends the events of one scenario with posthog-node, and ends when the SDK says that all are sent.
//
// node server_sdk.mjs HOST TOKEN SCENARIO
//
// Standard output is one JSON object a line: {"failed": n} for each try that failed, at the end
// {"errors": [...]} with what the SDK reported.

import { PostHog } from 'posthog-node';

const BATCH = 250;
// Many quick tries, so that a server that is away for seconds is only late.
const RETRIES = 200;
const RETRY_DELAY_MS = 100;

const [host, token, scenario] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

let failed = 0;

async function watchedFetch(url, options) {
  try {
    const response = await fetch(url, options);
    if (response.status === 200) return response;
    failed += 1;
    say({ failed, status: response.status });
    return response;
  } catch (error) {
    failed += 1;
    say({ failed, status: 0 });
    throw error;
  }
}

function connect(options = {}) {
  const client = new PostHog(token, {
    host,
    fetch: watchedFetch,
    fetchRetryCount: RETRIES,
    fetchRetryDelay: RETRY_DELAY_MS,
    ...options,
  });
  client.on('error', (error) => errors.push(String(error)));
  return client;
}

function capture(client, event, more = {}) {
  client.capture({ distinctId: 'ada', event, ...more });
}

function many(client) {
  for (let n = 0; n < BATCH; n += 1) {
    client.capture({ distinctId: `user-${n % 7}`, event: 'many', properties: { n } });
  }
}

const scenarios = {
  async everything() {
    const client = connect();
    capture(client, 'with properties', {
      properties: { plan: 'team', n: 42, f: 1.5, nested: { a: [1, 'two', null] }, t: 'é🦔' },
    });
    capture(client, 'own id and time', {
      uuid: '0192f0c1-2345-7abc-8def-0123456789ab',
      timestamp: new Date('2026-01-02T03:04:05.678Z'),
    });
    capture(client, 'in group', { groups: { company: 'acme' } });
    capture(client, 'anonymous', { properties: { $process_person_profile: false } });
    client.identify({
      distinctId: 'ada',
      properties: { $set: { name: 'Ada' }, $set_once: { first_seen: 'today' } },
    });
    client.alias({ distinctId: 'ada', alias: 'anonymous-1' });
    client.groupIdentify({
      groupType: 'company',
      groupKey: 'acme',
      properties: { name: 'Acme' },
      distinctId: 'ada',
    });
    client.captureException(new RangeError('no such page'), 'ada', { page: 7 });
    await client.captureImmediate({ distinctId: 'ada', event: 'immediate' });
    return client;
  },
  async compressed() {
    const client = connect();
    many(client);
    return client;
  },
  async plain() {
    const client = connect({ disableCompression: true });
    many(client);
    return client;
  },
  async historical() {
    const client = connect({ historicalMigration: true });
    many(client);
    return client;
  },
};

const errors = [];
const client = await scenarios[scenario]();
await client.shutdown();
say({ errors });
