/**
 * A booted machine whose agent, not root, captures: units are told apart, names are found by
 * systemd-resolved, which asks others for everything else, and a guard lets go when all are killed.
 */

import { execFileSync } from 'node:child_process'
import t from 'tap'
import { bootMachines, type Machine } from '#test/support/machine-room.ts'
import { lacks } from '#test/support/needs.ts'
import { root } from '#test/support/sources.ts'
import { until } from '#test/support/until.ts'

// Machines boot and packages are made here.
t.setTimeout(600_000)

const skip = lacks('machines') || false
const patience = { withinMs: 60_000 }
const out = '.package/test-capture'
/** Answers any question for an address as a site's own name server does: with 203.0.113.77. */
const siteDns = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 53))
while True:
    q, peer = s.recvfrom(512)
    end = q.index(0, 12) + 5
    is_a = q[end - 4:end - 2] == bytes([0, 1])
    head = q[:2] + bytes([0x85, 0x80, 0, 1, 0, 1 if is_a else 0, 0, 0, 0, 0])
    answer = bytes([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 77]) if is_a else b""
    s.sendto(head + q[12:end] + answer, peer)
`

t.test('a booted machine captures, and finds names', { skip }, async (t) => {
  const words = ['run', '--silent', 'package', '--', '--plain', '--out', out]
  execFileSync('npm', words, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  const [machine] = (await bootMachines(t, ['solo'], { mayCapture: true })) as [Machine]
  const found = (name: string): string => machine.try('getent', 'ahostsv4', name).stdout
  const site = /^203\.0\.113\.77 /
  const call = (host: string): string => {
    const words = ['-s', '-o', '/dev/null', '-w', '%{http_code}', `http://${host}/`]
    return machine.try('curl', ...words).stdout
  }
  const captures = (): boolean => machine.try('meshctl', 'capture', 'status').code === 0
  const findsSite = (): boolean => site.test(found('db.example.test'))
  const statusOf = (unit: string): string =>
    machine.shell(`cat /proc/$(systemctl show --property=MainPID --value ${unit})/status`)

  await t.test('programs ask systemd-resolved, and that the site’s server', async () => {
    // Of a link, as DHCP gives it.
    machine.shell(`cat > /root/dns.py <<'END'${siteDns}END
      set -e
      systemd-run --unit=site-dns python3 /root/dns.py ${machine.address}
      systemctl start systemd-resolved
      resolvectl dns eth0 ${machine.address}
      resolvectl default-route eth0 yes
      ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf`)
    await until('a name of the site is found', findsSite, patience)
    machine.shell(`dpkg --install /checkout/${out}/hostmesh_*64.deb`)
  })

  await t.test('init tells resolved of the mesh, and captures without being root', async (t) => {
    t.match(machine.run('meshctl', 'init'), /host solo serves/)
    await until('connections are captured', captures, patience)
    t.match(machine.run('meshctl', 'capture', 'status'), /capture +on/)
    t.match(machine.run('cat', '/etc/systemd/resolved.conf.d/hostmesh.conf'), /Domains=~mesh/)
    // CAP_NET_BIND_SERVICE and CAP_NET_ADMIN, and nothing else.
    const only = /^Uid:\t[1-9][^]*^CapEff:\t0*1400$[^]*^CapBnd:\t0*1400$/m
    t.match(statusOf('mesh-agent.service'), only)
    t.match(statusOf('mesh-proxy@1-0.service'), /^Uid:\t[1-9][^]*^CapEff:\t0+$[^]*^CapBnd:\t0+$/m)
  })

  await t.test('services are called by name, and everything else is found as before', async (t) => {
    machine.shell(`systemd-run --unit=orders --property=User=daemon \
        python3 -m http.server 8080 --bind 127.0.0.1
      echo '{ "port": 8080, "run": { "unit": "orders.service" } }' > /etc/mesh.d/orders.json`)
    const isFound = (): boolean => found('orders.mesh').startsWith('240.240.')
    await until('orders.mesh is found', isFound, patience)
    await until('it answers', () => call('orders.mesh') === '200', patience)
    t.match(found('db.example.test'), site)
    t.match(machine.run('getent', 'hosts', 'orders.mesh'), /orders\.mesh/)
  })

  await t.test('two units of one user call as themselves, also when they start again', async () => {
    const callers = (): ReadonlySet<string> =>
      new Set(
        machine
          .shell("journalctl -u 'mesh-proxy@*' -o cat | grep '\"access\"' | tail -n 40")
          .match(/(?<="source":"spiffe:\/\/mesh\.internal\/)[a-z/]+/g),
      )
    for (const name of ['jobs', 'reports']) {
      machine.shell(`echo '{ "run": { "unit": "${name}.service" } }' > /etc/mesh.d/${name}.json
        systemd-run --unit=${name} --property=User=games --property=Restart=always \
          sh -c 'while :; do curl -s -o /dev/null http://orders.mesh/; sleep 0.2; done'`)
    }
    const both = (): boolean =>
      ['service/jobs', 'service/reports'].every((one) => callers().has(one))
    await until('both are known by their units', both, patience)
    // Another one each time it starts; none while it does not run.
    const groups = (): string =>
      machine.try('find', '/sys/fs/cgroup', '-name', 'jobs.service', '-printf', '%i ').stdout
    const before = groups()
    machine.shell('systemctl stop reports.service; systemctl kill --signal=SIGKILL jobs.service')
    await until('jobs has started again', () => !['', before].includes(groups()), patience)
    machine.shell('journalctl --rotate; journalctl --vacuum-time=1s')
    await until('it is known again', () => callers().has('service/jobs'), patience)
    machine.shell('systemctl stop jobs.service; rm /etc/mesh.d/jobs.json /etc/mesh.d/reports.json')
  })

  await t.test('killed, it is let go of by its guard; purged, it leaves no trace', async (t) => {
    const virtual = found('orders.mesh').split(' ', 1)[0] ?? ''
    const standsIn = (): boolean =>
      machine.shell('nft list map inet hostmesh plain4').includes('127.0.0.1 . 8080')
    await until('the kernel knows who stands in', standsIn, patience)
    machine.shell(`systemctl kill --signal=SIGKILL mesh-agent.service 'mesh-proxy@*'
      systemctl stop mesh-agent.service mesh-proxy@1-0.service`)
    const nft = (): string => machine.shell('nft list ruleset')
    const led = (): string => machine.shell('nft list map inet hostmesh destinations4')
    await until(
      'the guard, no root either, has let go',
      () => !led().includes('elements'),
      patience,
    )
    const inPlain = (): boolean => call(virtual) === '200'
    await until('a service that may be called in plain is, meanwhile', inPlain, patience)
    await until('what is not of the mesh is found all the same', findsSite, patience)
    machine.shell('systemctl start mesh-agent.service mesh-proxy@1-0.service')
    await until('connections are captured again', captures, patience)
    await until('names are found again', () => found('orders.mesh').startsWith(virtual), patience)

    machine.shell('dpkg --purge hostmesh')
    await until('no rule is left', () => nft() === '', patience)
    t.notMatch(machine.shell('ip route show table local'), '240.240')
    t.equal(machine.try('test', '-e', '/etc/systemd/resolved.conf.d/hostmesh.conf').code, 1)
    await until('names of the site are found as before', findsSite, patience)
  })
})
