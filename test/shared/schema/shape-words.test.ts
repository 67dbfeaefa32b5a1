import t from 'tap'
import { agentConfigSchema } from '#agent/config-schema.ts'
import { manifestSchema, readManifest } from '#shared/schema/manifest.ts'
import { policySchema } from '#shared/schema/policy.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import { shapeWords } from '#shared/schema/shape-words.ts'

/** Every pattern of a text in a schema. */
function patternsOf(node: unknown): readonly string[] {
  if (typeof node !== 'object' || node === null) return []
  const { pattern, ...rest } = node as Readonly<Record<string, unknown>>
  return [
    ...(typeof pattern === 'string' ? [pattern] : []),
    ...Object.values(rest).flatMap(patternsOf),
  ]
}

function problemOf(manifest: object): string {
  const reading = readManifest('orders.json', Buffer.from(JSON.stringify(manifest)))
  return reading.ok ? '' : reading.problems.map(renderProblem).join('\n')
}

t.test('every pattern that somebody may break has its words', async (t) => {
  const patterns = [manifestSchema, policySchema, agentConfigSchema].flatMap(patternsOf)
  t.ok(patterns.length > 10)
  t.strictSame(
    patterns.filter((pattern) => shapeWords(pattern) === null),
    [],
  )
})

t.test('a text of the wrong shape is told the shape, not its length', async (t) => {
  t.match(
    problemOf({ name: 'Orders', port: 1 }),
    /name must be lower-case letters, digits and hyphens, with .* at both ends, not "Orders"/,
  )
  t.match(problemOf({ port: 1, tags: ['a b'] }), /must be visible ASCII .* spaces, not "a b"/)
  t.match(problemOf({ port: 1, requires: ['A'] }), /must be lower-case letters[^]*, not "A"/)
  t.match(problemOf({ port: 1, health: { kind: 'systemd', unit: 'orders' } }), /"orders\.service"/)
  for (const name of ['', 'x'.repeat(64)]) {
    t.match(problemOf({ name, port: 1 }), /name must be a text of 1 to 63 characters/)
  }
})

t.test('who writes https is told what stands for it', async (t) => {
  t.match(problemOf({ port: 1, protocol: 'https' }), /not "https" \(did you mean "tls"\?\)/)
  t.match(problemOf({ port: 1, health: { kind: 'https' } }), /"http" asks in plain; take "tcp"/)
  t.match(problemOf({ port: 1, protocol: 'htp' }), /did you mean "http"\?/)
})
