/** From a bare machine to a mesh of two, and back, with nothing but what the package ships. */

import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { protocol } from '#agent/workers/messages.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import { bootMachines, type Machine } from '#test/support/machine-room.ts'
import { lacks } from '#test/support/needs.ts'
import { otherPackage, type OtherVersion } from '#test/support/other-package.ts'
import { root } from '#test/support/sources.ts'
import { until } from '#test/support/until.ts'

// Machines boot and packages are made here.
t.setTimeout(1_800_000)

const skip = lacks('machines') || false
const units = [
  'mesh-agent.service',
  'mesh-proxy@1-0.service',
  'mesh-controller.service',
  'mesh-guard.service',
  'mesh-wait@shop.service',
  'mesh-rotation@shop.service',
] as const
const patience = { withinMs: 60_000 }
const out = '.package/test'

/** Every file, user and unit of a machine, its own logs, caches and books of timers apart. */
function traces(machine: Machine): string {
  // `/var/backups`: Debian copies dpkg's state there by itself, at midnight.
  return machine.shell(
    `find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /var/backups -o -path /checkout -o -path /root \\) -prune -o -print | sort; ls -d /run/mesh /var/cache/mesh 2>&1; cut -d: -f1 /etc/passwd /etc/group; systemctl list-unit-files --no-legend | cut -d' ' -f1; nft list ruleset; ip route`,
  )
}

function install(machine: Machine): void {
  machine.shell(`dpkg --install /checkout/${out}/hostmesh_*64.deb`)
}

/** Another version, whose workers and control process speak a newer protocol. */
const nextVersion: OtherVersion = {
  version: '0.9.1',
  changes: {
    'agent/workers/messages.ts': [
      /newest: \d+, oldest: \d+/,
      `newest: ${protocol.newest + 1}, oldest: ${protocol.newest}`,
    ],
  },
}
/** One whose workers do not start. */
const brokenVersion: OtherVersion = {
  version: '0.9.2',
  changes: { 'agent/worker.ts': [/$/, "\nthrow new Error('this version is broken')\n"] },
}

/** Installs another version beside what runs. */
function installOther(machine: Machine, other: OtherVersion): void {
  const deb = readdirSync(join(root, out)).find((name) => /^hostmesh_.*64\.deb$/.test(name)) ?? ''
  const made = otherPackage(join(root, out, deb), other)
  machine.shell(`dpkg --install --force-downgrade /checkout/${out}/${made.split('/').at(-1)} 2>&1`)
}

const shopManifest = JSON.stringify({
  port: 8070,
  run: { unit: 'shop.service' },
  requires: ['stock'],
})
/** Answers at once, but for /slow: then when /tmp/shop.go is there. */
const shopProgram = `
import http.server, os, time
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            open("/tmp/shop.asked", "w").close()
            while not os.path.exists("/tmp/shop.go"): time.sleep(0.05)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"served to the end")
http.server.ThreadingHTTPServer(("127.0.0.1", 8070), Shop).serve_forever()
`

function stateOf(machine: Machine, unit: string): string {
  return machine.try('systemctl', 'is-active', unit).stdout.trim()
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
      t.equal(listed.match(/^mesh-\S+ +disabled\b/gm)?.length, 5, listed)
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

  await t.test('meshctl join tells at once that the controller refuses it', async (t) => {
    const token = first.run('meshctl', 'token', 'create', 'other', '--service', '*').trim()
    const line = `printf %s '${token}' | meshctl join ${first.address} --token-file -`
    const refused = second.try('sh', '-c', line)
    t.equal(refused.code, 3)
    t.match(refused.stderr, /the agent has ended: mesh-agent: .*token/)
    t.equal(stateOf(second, 'mesh-agent.service'), 'failed')
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
    // The journal has it a moment after the caller has its answer.
    const lines = "journalctl -u 'mesh-proxy@*' -o cat | grep '\"access\"' || true"
    const access = await until(
      'the journal has an access line',
      () => second.shell(lines).trim().split('\n').at(-1) ?? '',
      patience,
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
    // The worker that runs would go on being held to three seconds, also where machines are busy.
    second.shell(`rm -r /run/systemd/system/mesh-proxy@.service.d
      systemctl daemon-reload && systemctl restart mesh-proxy@1-0.service`)
    await reaches(second, 'orders')
  })

  await t.test('an upgrade under load costs nobody anything', async (t) => {
    first.shell(`systemd-run --unit=echo python3 -c '
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096): self.request.sendall(data)
socketserver.ThreadingTCPServer(("127.0.0.1", 8090), Echo).serve_forever()'
      echo '{ "port": 8090, "protocol": "tcp" }' > /etc/mesh.d/echo.json`)
    second.shell(`echo '{ "upstreams": { "echo": 9003 } }' > /etc/mesh.d/streams.json`)
    const sees = (): boolean => second.run('meshctl', 'services', '--json').includes('"echo"')
    await until('echo is there', sees, patience)
    await until('its port is open', () => second.shell('ss -ltn').includes(':9003'), patience)
    second.shell('systemd-run --unit=load python3 /checkout/test/support/machine-load.py')
    const begun = (): boolean => second.try('test', '-e', '/tmp/load.begun').code === 0
    await until('the stream is answered', begun, patience)
    const before = second.shell('systemctl show --property=MainPID mesh-proxy@1-0.service')
    installOther(second, nextVersion)
    t.equal(second.shell('systemctl show --property=MainPID mesh-proxy@1-0.service'), before)
    const said = second.run('meshctl', 'upgrade')
    t.match(said, /with version 0\.9\.1\ngeneration 2 \(version 0\.9\.1\): live\ngeneration 1/)
    await reaches(second, 'orders')
    const generations = second.run('meshctl', 'generations')
    const retiring = `^2 +live[^]*^1 +retiring .* ${protocol.newest} +1-0 \\(pid`
    t.match(generations, new RegExp(retiring, 'm'), 'it carries the stream')
    const broken = () => installOther(second, brokenVersion)
    broken()
    const refused = second.try('meshctl', 'upgrade')
    t.match(refused, { code: 3, stderr: /not upgraded: .*this version is broken; generation 2/ })
    t.equal(refused.stderr.split('\n').filter((line) => line.includes('broken')).length, 1)
    t.match(second.run('meshctl', 'generations'), /^2 +live/m)
    t.notMatch(second.run('meshctl', 'generations'), /^3 /m)
    installOther(second, nextVersion)
    second.shell('touch /tmp/load.stop')
    await until(
      'the load is over',
      () => second.try('test', '-e', '/tmp/load.json').code === 0,
      patience,
    )
    const seen = JSON.parse(second.shell('cat /tmp/load.json')) as Record<string, unknown>
    t.same(seen['failed'], [])
    t.equal(seen['cut'], '')
    t.ok(Number(seen['requests']) > 100, JSON.stringify(seen))
    await until(
      'the former generation has ended',
      () => {
        const { stdout } = second.try('systemctl', 'is-active', 'mesh-proxy@1-0.service')
        // The package installed last has restarted the control process: it may not have been found.
        const known = second.try('meshctl', 'generations').stdout
        return stdout.trim() === 'inactive' && /^2 +live/m.test(known) && !/^1 /m.test(known)
      },
      patience,
    )
  })

  await t.test(
    'systemctl reload fails where the config is wrong, and nothing changes',
    async (t) => {
      second.shell('cp /etc/mesh/agent.json /tmp/agent.json')
      second.shell(`echo '{ "controler": 1 }' > /etc/mesh/agent.json`)
      t.not(second.try('systemctl', 'reload', 'mesh-agent.service').code, 0)
      t.match(
        second.shell('journalctl -u mesh-agent -o cat -n 30'),
        /controler[^]*nothing has changed/,
      )
      t.equal(calls(second, 'orders'), '200')
      second.shell('cp /tmp/agent.json /etc/mesh/agent.json; systemctl reload mesh-agent.service')
      t.equal(second.shell('systemctl is-active mesh-agent.service').trim(), 'active')
    },
  )

  await t.test('a linked unit starts once what it requires is there', async (t) => {
    second.shell(`printf '%s' '${shopProgram}' > /tmp/shop.py
      printf '[Service]\\nExecStart=python3 /tmp/shop.py\\nRestart=always\\n' > /etc/systemd/system/shop.service
      systemctl daemon-reload
      echo '${shopManifest}' > /etc/mesh.d/shop.json`)
    await until(
      'the agent has read it',
      () => second.run('meshctl', '--json', 'manifest', 'status').includes('"shop"'),
      patience,
    )
    t.match(second.run('meshctl', 'unit', 'link', 'shop'), /shop\.service waits for what shop/)
    t.match(second.run('meshctl', 'unit', 'link', 'shop'), /shop\.service is linked already/)
    t.match(second.run('meshctl', 'unit', 'list'), /shop\.service +shop +yes/)
    second.shell('systemctl start --no-block shop.service')
    const waits = (): boolean =>
      second.shell('journalctl -o cat -u mesh-wait@shop').includes('waiting: stock: no instance')
    await until('it says what it waits for', waits, patience)
    t.equal(stateOf(second, 'shop.service'), 'inactive')
    first.shell(`systemd-run --unit=stock python3 -m http.server 8071 --bind 127.0.0.1
      echo '{ "port": 8071 }' > /etc/mesh.d/stock.json`)
    await until('it runs', () => stateOf(second, 'shop.service') === 'active', patience)
    await reaches(first, 'shop')
  })

  await t.test('a linked unit stops once it is drained, and no request is lost', async (t) => {
    const way = '--proxy http://127.0.0.1:15002 http://shop.mesh/slow'
    first.shell(`systemd-run --unit=caller curl --silent --output /tmp/slow ${way}`)
    const isAsked = (): boolean => second.try('test', '-e', '/tmp/shop.asked').code === 0
    await until('the service has the request', isAsked, patience)
    second.shell('systemctl stop --no-block shop.service')
    const waits = (): boolean =>
      /waiting for shop \(1 request/.test(second.shell('journalctl -o cat -u mesh-rotation@shop'))
    await until('it says what it waits for', waits, patience)
    t.equal(stateOf(second, 'shop.service'), 'active')
    second.shell('touch /tmp/shop.go')
    await until('it has stopped', () => stateOf(second, 'shop.service') === 'inactive', patience)
    await until('it is answered', () => stateOf(first, 'caller') === 'inactive', patience)
    t.equal(first.shell('cat /tmp/slow'), 'served to the end')
    second.shell('systemctl start shop.service')
    await reaches(first, 'shop')
  })

  await t.test(
    'a linked unit that falls over starts again, and what was drained by hand stays so',
    async (t) => {
      const pid = (): string => second.shell('systemctl show -P MainPID shop.service').trim()
      const former = pid()
      second.run('meshctl', 'drain', 'shop', '--reason', 'new disk', '--wait')
      second.shell(`kill -KILL ${former}`)
      await until('it runs again', () => !['0', former].includes(pid()), patience)
      const isOver = (): boolean => stateOf(second, 'mesh-rotation@shop.service') === 'active'
      await until('its turn is over', isOver, patience)
      const said = second.run('meshctl', '--json', 'manifest', 'status')
      const shop = (JSON.parse(said) as readonly ManifestReport[]).find(
        ({ service }) => service === 'shop',
      )
      t.equal(shop?.rotation, 'out', 'whoever drained it puts it back')
      t.match(second.run('meshctl', 'unit', 'unlink', 'shop'), /no unit is linked to shop any more/)
      t.equal(stateOf(second, 'shop.service'), 'active')
      t.equal(second.try('test', '-e', '/etc/systemd/system/shop.service.d').code, 1)
      // Removing the package takes it away, too.
      second.run('meshctl', 'unit', 'link', 'shop', '--strict')
      second.shell('systemctl stop shop.service; rm /etc/systemd/system/shop.service')
    },
  )

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
