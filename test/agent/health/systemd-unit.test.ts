import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { systemdUnit } from '#agent/health/systemd-unit.ts'
import { testDirectory } from '#test/support/test-directory.ts'

/** A systemctl that answers what a test wants, where systemd seems to run. */
function machine(t: Test, script: string) {
  const directory = testDirectory(t, { mark: '' })
  const program = `${directory}/systemctl`
  writeFileSync(program, `#!/bin/sh\necho "$@" >> ${directory}/asked\n${script}\n`)
  chmodSync(program, 0o755)
  return {
    program,
    mark: `${directory}/mark`,
    asked: () => readFileSync(`${directory}/asked`, 'utf8'),
  }
}

const show = (load: string, active: string, sub: string) =>
  `printf 'LoadState=${load}\\nActiveState=${active}\\nSubState=${sub}\\n'`

t.test('a unit passes while it is active', async (t) => {
  const cases = [
    [show('loaded', 'active', 'running'), { outcome: 'pass', detail: 'unit active (running)' }],
    [show('loaded', 'reloading', 'reload'), { outcome: 'pass', detail: 'unit reloading (reload)' }],
    [show('loaded', 'failed', 'failed'), { outcome: 'fail', detail: 'unit failed (failed)' }],
    [show('loaded', 'activating', 'start'), { outcome: 'fail', detail: 'unit activating (start)' }],
    [show('not-found', 'inactive', 'dead'), { outcome: 'fail', detail: 'unit not-found' }],
    ['true', { outcome: 'fail', detail: 'unit unknown' }],
  ] as const
  for (const [script, expected] of cases) {
    const settings = machine(t, script)
    const signal = AbortSignal.timeout(30_000)
    t.strictSame(await systemdUnit('orders.service', signal, settings), expected)
    t.match(settings.asked(), /^show --property=\S+ -- orders\.service$/m)
  }
})

t.test('a systemctl that fails, hangs or talks without end fails the check', async (t) => {
  const ask = (script: string, ms: number) =>
    systemdUnit('orders.service', AbortSignal.timeout(ms), machine(t, script))
  t.match(await ask('exit 1', 30_000), { outcome: 'fail', detail: /^systemctl: / })
  t.match(await ask('exec sleep 60', 200), {
    outcome: 'fail',
    detail: 'systemctl: no answer in time',
  })
  t.match(await ask('exec yes', 30_000), { outcome: 'fail', detail: /maxBuffer/ })
})

t.test('without systemd the check says so', async (t) => {
  const settings = { mark: `${testDirectory(t, {})}/none`, program: '/nowhere' }
  t.match(await systemdUnit('a.service', AbortSignal.timeout(1000), settings), {
    outcome: 'fail',
    detail: 'systemd does not run on this host',
  })
})

t.test('many questions are asked a few at a time, and all are answered', async (t) => {
  const settings = machine(t, show('loaded', 'active', 'running'))
  const signal = AbortSignal.timeout(60_000)
  const results = await Promise.all(
    Array.from({ length: 12 }, () => systemdUnit('a.service', signal, settings)),
  )
  t.ok(results.every(({ outcome }) => outcome === 'pass'))
})
