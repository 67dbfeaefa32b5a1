import t from 'tap'
import { didYouMean } from '#shared/schema/did-you-mean.ts'

const keys = ['name', 'port', 'address', 'protocol', 'weight', 'health', 'upstreams', 'drainMs']

void t.test('didYouMean finds what was meant', (t) => {
  const cases: readonly (readonly [string, string | null])[] = [
    ['prot', 'port'],
    ['Port', 'port'],
    ['adress', 'address'],
    ['upstream', 'upstreams'],
    ['drainms', 'drainMs'],
    ['drain_ms', 'drainMs'],
    ['helth', 'health'],
    ['xyz', null],
    ['', null],
    ['a'.repeat(100_000), null],
  ]
  for (const [asked, meant] of cases) t.equal(didYouMean(asked, keys), meant, asked.slice(0, 20))
  t.equal(didYouMean('MESH_HOOST', ['MESH_HOST'], { within: 2 }), 'MESH_HOST')
  t.equal(didYouMean('MESH_CONTROLLER_RUN', ['MESH_CONTROLLER'], { within: 2 }), null)
  t.end()
})
