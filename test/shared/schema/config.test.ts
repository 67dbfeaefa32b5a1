import t from 'tap'
import { Type } from '#shared/schema/type.ts'
import { readConfig, variablesOf, type ConfigSources } from '#shared/schema/config.ts'
import { renderProblem } from '#shared/schema/problem.ts'

const schema = Type.Object(
  {
    host: Type.String({ maxLength: 63, description: 'name of this host' }),
    drainMs: Type.Integer({ minimum: 0, maximum: 1000, default: 5 }),
    audit: Type.Boolean({ default: false }),
    joinTokenFile: Type.Optional(Type.String()),
    log: Type.Object(
      { level: Type.Enum(['info', 'warn'], { default: 'info' }) },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)

function read(text: string | null, environment: ConfigSources['environment'] = {}) {
  const file = text === null ? null : { path: 'agent.json', bytes: Buffer.from(text) }
  return readConfig(schema, { file, environment, prefix: 'MESH_' }, (raw, report) => {
    if (raw.host === 'bad') report('/host', { rule: 'bad-name', message: 'host "bad" is bad' })
    return raw
  })
}

function problems(...parts: Parameters<typeof read>): readonly string[] {
  const reading = read(...parts)
  return reading.ok ? [] : reading.problems.map(renderProblem)
}

void t.test('environment wins over the file and the file over defaults', (t) => {
  const reading = read('{"host": "a", "drainMs": 7}', {
    MESH_HOST: 'b',
    MESH_LOG_LEVEL: 'warn',
    MESH_AUDIT: 'true',
    MESH_JOIN_TOKEN_FILE: '/t',
  })
  t.strictSame(reading, {
    ok: true,
    config: { host: 'b', drainMs: 7, audit: true, joinTokenFile: '/t', log: { level: 'warn' } },
  })
  t.match(read(null, { MESH_HOST: 'b' }), {
    ok: true,
    config: { drainMs: 5, log: { level: 'info' } },
  })
  t.end()
})

void t.test('the config is frozen through and through', (t) => {
  const reading = read('{"host": "a"}')
  t.ok(reading.ok && Object.isFrozen(reading.config) && Object.isFrozen(reading.config.log))
  t.end()
})

void t.test('every fault is reported together, by place or by variable', (t) => {
  const found = problems(
    '{\n "host": "bad",\n "drianMs": 1,\n "audit": 1,\n "log": {"level": "x"}\n}',
    {
      MESH_DRAIN_MS: 'soon',
      MESH_HOOST: 'x',
      MESH_LOG_LEVEL: 'loud',
      MESH_AGENT_SOCKET: 'other programs may share the prefix',
      PATH: '/bin',
    },
  )
  t.strictSame(found, [
    'agent.json:2:10: host "bad" is bad',
    'agent.json:3:2: unknown key "drianMs" (did you mean "drainMs"?)',
    'agent.json:4:11: audit must be true or false, not 1',
    'MESH_DRAIN_MS: drainMs must be a whole number from 0 to 1000, not "soon"',
    'MESH_HOOST: unknown variable MESH_HOOST (did you mean MESH_HOST?)',
    'MESH_LOG_LEVEL: log.level must be one of "info", "warn", not "loud"',
  ])
  t.end()
})

void t.test('a missing key and a file that is no JSON are told', (t) => {
  t.strictSame(problems('{}'), ['agent.json:1:1: host is missing (name of this host)'])
  t.strictSame(problems(null), ['config: host is missing (name of this host)'])
  t.match(problems('{"host": }', { MESH_HOST: 'a' }), [/agent\.json:1:10: a value is missing/])
  t.match(problems('[]'), [/agent\.json:1:1: the document must be an object/])
  t.end()
})

void t.test('a missing or wrong key hides no fault of another', (t) => {
  const strict = Type.Object({ host: Type.String({ minLength: 1 }), port: Type.String() })
  const reading = (text: string) => {
    const file = { path: 'a.json', bytes: Buffer.from(text) }
    return readConfig(strict, { file, environment: {}, prefix: 'X_' }, (raw, report) => {
      if (raw.host !== 'a') report('/host', { rule: 'bad', message: 'host is bad' })
      if (raw.port !== '1') report('/port', { rule: 'bad', message: 'port is bad' })
    })
  }
  for (const text of ['{"port": "x"}', '{"host": 5, "port": "x"}']) {
    const { ok, problems } = { problems: [], ...reading(text) }
    t.notOk(ok)
    t.strictSame(
      problems.map(({ path }) => path),
      ['/host', '/port'],
    )
  }
  t.end()
})

void t.test('variablesOf names the variable of every key', (t) => {
  t.strictSame(
    [...variablesOf(schema, 'MESH_')],
    [
      ['host', 'MESH_HOST'],
      ['drainMs', 'MESH_DRAIN_MS'],
      ['audit', 'MESH_AUDIT'],
      ['joinTokenFile', 'MESH_JOIN_TOKEN_FILE'],
      ['log.level', 'MESH_LOG_LEVEL'],
    ],
  )
  t.end()
})
