import t from 'tap'
import { configChanges, configKeys } from '#agent/config-changes.ts'
import { readAgentConfig } from '#agent/config-reader.ts'
import { agentConfigSchema } from '#agent/config-schema.ts'
import type { AgentConfig } from '#agent/config.ts'
import { machineFacts } from '#agent/machine-facts.ts'

function read(more: Readonly<Record<string, unknown>>): AgentConfig {
  const bytes = Buffer.from(JSON.stringify({ controller: '10.0.0.9:15010', host: 'h', ...more }))
  const file = { path: 'agent.json', bytes }
  const reading = readAgentConfig({ file, environment: {} }, machineFacts())
  if (!reading.ok) throw new Error(reading.problems.map(({ message }) => message).join())
  return reading.config
}

t.test('configKeys has every key of the config, so that none changes unnoticed', async (t) => {
  const known = new Set(configKeys.map(([key]) => key))
  for (const [key, schema] of Object.entries(agentConfigSchema.properties)) {
    if (key === '$schema') continue
    const parts =
      'properties' in schema && (key === 'paths' || key === 'listen')
        ? Object.keys(schema.properties)
        : ['']
    for (const part of parts)
      t.ok(known.has(part === '' ? key : `${key}.${part}`), `${key} ${part}`)
  }
})

t.test('configChanges names the keys that differ, and what each takes', async (t) => {
  const before = read({})
  t.same(configChanges(before, read({})), [])
  const after = read({
    log: { level: 'debug' },
    zone: 'z2',
    maxConnections: 7,
    capturePorts: 20_000,
  })
  t.same(configChanges(before, after), [
    { key: 'log', moment: 'now' },
    { key: 'zone', moment: 'restart' },
    { key: 'capturePorts', moment: 'stop' },
    { key: 'maxConnections', moment: 'upgrade' },
  ])
})
