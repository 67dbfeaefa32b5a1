import t from 'tap'
import { exitCodes } from '#agent/exit-codes.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'

t.test('exitCodes tells what a person has to mend', async (t) => {
  const codes = {
    'listen-failed': 69,
    'tunnel-port': 69,
    'worker-socket': 69,
    'agent-already-runs': 69,
    directory: 78,
    'state-newer': 78,
    'token-used': 77,
  }
  for (const [code, expected] of Object.entries(codes))
    t.equal(exitCodes.of(new MeshError('x', { code })), expected, code)
  t.equal(exitCodes.of(new MeshError('x', { code: 'state-unusable', retry: true })), 1)
  t.equal(exitCodes.of(new Error('a bug')), 1)
  t.equal(exitCodes.of('anything'), 1)
})
