import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'
import { findServiceManager, Notifier, watchdogMs } from '#shared/lifecycle/service-manager.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { needs } from '#test/support/needs.ts'
import { shortDir } from '#test/support/short-dir.ts'
import { root } from '#test/support/sources.ts'
import { thisMachine } from '#test/support/this-machine.ts'

t.test(
  'Notifier says ready once, then feeds the watchdog three times as often as asked',
  async (t) => {
    const clock = new FakeClock()
    const said: string[] = []
    const notifier = new Notifier(
      { clock, send: (line) => said.push(line) },
      { watchdogMs: 30_000 },
    )
    await clock.advance(60_000)
    t.same(said, [], 'who is not ready is not alive')
    notifier.ready()
    notifier.ready()
    await clock.advance(30_000)
    notifier.status('serving\nwell')
    notifier.status('serving\nwell')
    notifier.reloading(7n)
    notifier.ready()
    notifier.stopping()
    const fed = ['WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1']
    const reload = ['RELOADING=1\nMONOTONIC_USEC=7', 'READY=1']
    t.same(said, ['READY=1', ...fed, 'STATUS=serving well', ...reload, 'STOPPING=1'])
  },
)

t.test('watchdogMs is for the process it was meant for', async (t) => {
  const of = (environment: Record<string, string>): number => watchdogMs({ environment, pid: 7 })
  t.equal(of({}), 0)
  t.equal(of({ WATCHDOG_USEC: '30000000' }), 30_000)
  t.equal(of({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }), 30_000)
  t.equal(of({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '8' }), 0)
  t.equal(of({ WATCHDOG_USEC: 'soon' }), 0)
})

t.test('findServiceManager is silent where there is none', async (t) => {
  const warnings: string[] = []
  const parts = { clock: systemClock, warn: (problem: string) => warnings.push(problem) }
  const manager = await findServiceManager(parts, { environment: {}, pid: 1 })
  manager.ready()
  manager.stopping()
  t.same(warnings, [])
})

t.test('findServiceManager reaches the socket systemd names', async (t) => {
  if (!needs(t, 'python3', 'libsystemd')) return
  const socket = `${shortDir(t)}/notify`
  const program = `
import { findServiceManager } from '#shared/lifecycle/service-manager.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
const parts = { clock: systemClock, warn: (problem) => console.error(problem) }
const manager = await findServiceManager(parts, { environment: process.env, pid: process.pid })
manager.ready()
manager.status('waits for ü')`
  const listener = `
import os, socket, subprocess, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind(sys.argv[1])
server.settimeout(60)
subprocess.run(sys.argv[2:], check=True, env=dict(os.environ, NOTIFY_SOCKET=sys.argv[1]))
print([server.recv(4096).decode() for _ in range(2)])`
  const words = ['-c', listener, socket, thisMachine.node, '--input-type=module', '-e', program]
  const { stdout } = await promisify(execFile)('python3', words, { cwd: root })
  t.equal(stdout.trim(), "['READY=1', 'STATUS=waits for ü']")
})
