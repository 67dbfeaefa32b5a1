import t from 'tap'
import { weightNotes } from '#agent/manifests/weight-notes.ts'
import { manifestOf } from '#test/support/manifests.ts'

t.test('a weight for warnings is accepted, and noted where none can come', async (t) => {
  const notes = (health?: unknown): readonly string[] =>
    weightNotes(manifestOf({ port: 80, ports: { admin: 9090 }, warningWeight: 5, health }))
  const mute = [
    undefined,
    {},
    { kind: 'grpc' },
    [{ kind: 'systemd', unit: 'a.service' }, { kind: 'tcp' }],
    { kind: 'http', portName: 'admin' },
  ]
  for (const health of mute) t.match(notes(health), [/^warningWeight has no effect where no check/])
  for (const health of [{ kind: 'http' }, [{}, { kind: 'push' }]]) t.same(notes(health), [])
  t.same(weightNotes(manifestOf({ port: 80, weight: 5 })), [])
})
