/** From a bare machine to a mesh of two, and back, with nothing but what the package ships. */

import { execFileSync } from 'node:child_process'
import t from 'tap'
import { bootMachines, type Machine } from '#test/support/machine-room.ts'
import { lacks } from '#test/support/needs.ts'
import { root } from '#test/support/sources.ts'
import { until } from '#test/support/until.ts'

// Machines boot and packages are made here.
t.setTimeout(600_000)

const skip = lacks('machines') || false
const units = [
  'mesh-agent.service',
  'mesh-proxy@1-0.service',
  'mesh-controller.service',
  'mesh-guard.service',
] as const
const patience = { withinMs: 60_000 }
const out = '.package/test'

/** Every file, user and unit of a machine, its own logs and caches apart. */
function traces(machine: Machine): string {
  return machine.shell(
    `find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /checkout -o -path /root \\) -prune -o -print | sort; ls -d /run/mesh /var/cache/mesh 2>&1; cut -d: -f1 /etc/passwd /etc/group; systemctl list-unit-files --no-legend | cut -d' ' -f1; nft list ruleset; ip route`,
  )
}

function install(machine: Machine): void {
  machine.shell(`dpkg --install /checkout/${out}/*.deb`)
}

/** The status of a call through the forward proxy. */
function calls(machine: Machine, service: string): string {
  const format = ['--silent', '--output', '/dev/null', '--write-out', '%{http_code}']
  const words = ['--proxy', 'http://127.0.0.1:15002', `http://${service}.mesh/`]
  return machine.try('curl', ...format, ...words).stdout
}

async function reaches(machine: Machine, service: string): Promise<void> {
  const what = `${machine.name} reaches ${service}`
  await until(what, () => calls(machine, service) === '200', patience)
}

t.test('from bare machines to a mesh of two, and back', { skip }, async (t) => {
  const words = ['run', '--silent', 'package', '--', '--plain', '--out', out]
  execFileSync('npm', words, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  const [first, second] = (await bootMachines(t, ['first', 'second'])) as [Machine, Machine]
  const before = traces(second)

  await t.test('installing enables and starts nothing', async (t) => {
    for (const machine of [first, second]) {
      install(machine)
      const listed = machine.shell("systemctl list-unit-files --no-legend 'mesh-*'")
      t.equal(listed.match(/disabled/g)?.length, 5, listed)
      t.equal(machine.shell("systemctl list-units --no-legend 'mesh-*'"), '')
    }
  })

  await t.test('the units are sound, and locked down', async (t) => {
    for (const unit of units) {
      const verified = first.try('systemd-analyze', 'verify', '--man=no', unit)
      t.same(verified, { code: 0, stdout: '', stderr: '' })
      const text = first.shell(`systemd-analyze security ${unit} --no-pager | tail -n 1`)
      const score = Number(/: ([0-9.]+) /.exec(text)?.[1])
      t.ok(score <= (unit === 'mesh-controller.service' ? 1.5 : 2), `${unit}: ${text}`)
    }
  })

  await t.test('meshctl join changes nothing where something is in the way', async (t) => {
    second.shell('systemd-run --unit=squatter python3 -m http.server 15008')
    await until('the port is taken', () => second.shell('ss -ltn').includes(':15008'), patience)
    const refused = second.try('meshctl', 'join', first.address, '--token-file', '/nowhere')
    t.equal(refused.code, 1)
    t.match(refused.stderr, /cannot read the token: ENOENT[^]*port 15008 is taken[^]*nothing was/)
    t.match(refused.stderr, /cannot be reached \(ECONNREFUSED\): does it run, is port 15010 open/)
    second.shell('systemctl stop squatter')
    second.shell(`mv /usr/sbin/nft /usr/sbin/nft.away
      mkdir -p /var/lib/mesh; mount -t tmpfs -o size=1m none /var/lib/mesh`)
    const unfit = second.try('meshctl', 'join', first.address, '--token-file', '/nowhere')
    t.match(unfit.stderr, /nft does not work here \(nft was not found\)/)
    t.match(unfit.stderr, /only [01] MiB are free at \/var\/lib\/mesh: make room/)
    second.shell('umount /var/lib/mesh; mv /usr/sbin/nft.away /usr/sbin/nft')
    t.equal(second.shell('ls -A /etc/mesh /var/lib/mesh'), '/etc/mesh:\n\n/var/lib/mesh:\n')
  })

  await t.test('meshctl init makes the first host serve, and may be called again', async (t) => {
    t.match(first.run('meshctl', 'init'), /mesh mesh\.internal is up; host first serves/)
    t.match(first.run('meshctl', 'check'), / 0 failed/)
    t.match(first.run('meshctl', 'init'), /host first serves/)
    const other = first.try('meshctl', 'init', '--trust-domain', 'other.example')
    t.match(other, { code: 1, stderr: /controller\.json is there already/ })
  })

  await t.test('meshctl join brings the next host in, and the token is gone', async (t) => {
    const token = first.run('meshctl', 'token', 'create', 'second', '--service', '*').trim()
    const line = `printf %s '${token}' | meshctl join ${first.address} --token-file -`
    t.match(second.shell(line), /host second serves in mesh mesh\.internal/)
    t.equal(second.try('test', '-e', '/etc/mesh/join-token').code, 1)
    t.match(second.run('meshctl', 'check'), / 0 failed/)
  })

  await t.test('a file puts a service in the mesh, from every host', async (t) => {
    first.shell(`systemd-run --unit=orders python3 -m http.server 8080 --bind 127.0.0.1
      echo '{ "port": 8080 }' > /etc/mesh.d/orders.json`)
    await reaches(first, 'orders')
    await reaches(second, 'orders')
    const access = second.shell(
      "journalctl -u 'mesh-proxy@*' -o cat | grep '\"access\"' | tail -n 1",
    )
    t.match(JSON.parse(access), { destination: /service\/orders$/, mtls: true, status: 200 })
  })

  await t.test('no unit’s end ends another’s connections', async (t) => {
    second.shell('systemctl kill --signal=SIGKILL --kill-who=main mesh-agent.service')
    t.equal(calls(second, 'orders'), '200', 'the control process was killed')
    await until(
      'it is back',
      () => second.try('meshctl', 'status').stdout.includes('ready       yes'),
      patience,
    )
    second.shell('systemctl stop mesh-agent.service')
    t.equal(calls(second, 'orders'), '200', 'the control process is stopped')
    second.shell('systemctl start mesh-agent.service')
  })

  await t.test('the watchdog ends what hangs', async (t) => {
    second.shell(`mkdir -p /run/systemd/system/mesh-proxy@.service.d
      printf '[Service]\\nWatchdogSec=3\\n' > /run/systemd/system/mesh-proxy@.service.d/test.conf
      systemctl daemon-reload && systemctl restart mesh-proxy@1-0.service`)
    await reaches(second, 'orders')
    const pid = (): string =>
      second.shell('systemctl show --property=MainPID --value mesh-proxy@1-0.service').trim()
    const hung = pid()
    second.shell(`kill -STOP ${hung}`)
    await until('another worker serves', () => pid() !== hung && pid() !== '0', patience)
    await reaches(second, 'orders')
    t.match(second.shell('journalctl -u mesh-proxy@1-0.service'), /Watchdog timeout/)
    second.shell('rm -r /run/systemd/system/mesh-proxy@.service.d; systemctl daemon-reload')
  })

  await t.test('purging leaves nothing behind', async (t) => {
    second.shell('dpkg --purge hostmesh')
    t.equal(traces(second), before)
    await until(
      'the other host has forgotten it',
      () => !first.run('meshctl', 'services', '--json').includes('"second"'),
      patience,
    )
  })
})
