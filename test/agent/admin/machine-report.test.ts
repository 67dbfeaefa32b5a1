import { tmpdir } from 'node:os'
import t from 'tap'
import { machineReport } from '#agent/admin/machine-report.ts'

t.test('machineReport tells what this machine has left', async (t) => {
  const stateDirectory = tmpdir()
  const report = machineReport({ stateDirectory, workers: [process.pid], callersWanted: 7 })
  t.match(report, { stateDirectory, callersWanted: 7 })
  t.ok((report.openFiles ?? 0) > 0 && (report.memoryFreeBytes ?? 0) > 0)
  t.ok((report.stateFreeBytes ?? 0) > 0 && (report.localPorts ?? 0) > 0)
})

t.test('what the kernel does not tell is left out', async (t) => {
  const question = { stateDirectory: '/does/not/exist', workers: [2 ** 30], callersWanted: 1 }
  t.match(machineReport(question), { openFiles: null, stateFreeBytes: null })
})
