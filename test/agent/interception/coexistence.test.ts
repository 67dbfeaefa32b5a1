/**
 * Our table beside those of others that stood there first: Docker, kube-proxy, ufw and firewalld, as
 * they write them. Captured connections go to the mesh all the same, and nothing of theirs changes.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { nothing, type CaptureState } from '#agent/interception/capture-state.ts'
import { tableIn } from '#test/support/kernel-table.ts'
import { makeNamespace } from '#test/support/namespace.ts'
import { lacks } from '#test/support/needs.ts'

const skip = lacks('netns', 'nft')

const tables = {
  // A container publishes port 80; what is local, virtual IPs too, would be led to it.
  docker: `
    table ip nat {
      chain DOCKER { iifname != "docker0" tcp dport 80 dnat to 172.17.0.2:80; }
      chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; fib daddr type local jump DOCKER; }
      chain OUTPUT { type nat hook output priority -100; policy accept; ip daddr != 127.0.0.0/8 fib daddr type local jump DOCKER; }
      chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept; ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; }
    }
    table ip filter {
      chain DOCKER-USER { return; }
      chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
    }`,
  // The service that is intercepted has a ClusterIP whose pods kube-proxy knows.
  'kube-proxy': `
    table ip kube-proxy {
      chain service-web { meta l4proto tcp dnat to 10.244.1.7:8443; }
      map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.1 . tcp . 443 : goto service-web } }
      chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
      chain nat-output { type nat hook output priority -100; policy accept; jump services; }
      chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
      chain filter-output { type filter hook output priority -110; policy accept; ct state new ip daddr 10.96.0.0/12 accept; }
    }`,
  ufw: `
    table ip ufw {
      chain before-input { iifname "lo" accept; ct state established,related accept; ct state invalid drop; tcp dport 22 accept; }
      chain INPUT { type filter hook input priority filter; policy drop; jump before-input; }
      chain OUTPUT { type filter hook output priority filter; policy accept; oifname "lo" accept; ct state established,related accept; }
    }`,
  firewalld: `
    table inet firewalld {
      chain filter_PREROUTING { type filter hook prerouting priority filter + 10; policy accept; meta nfproto ipv6 fib saddr . mark . iif oif missing drop; }
      chain nat_OUTPUT { type nat hook output priority -90; policy accept; }
      chain filter_INPUT { type filter hook input priority filter + 10; policy accept; ct state established,related accept; ct status dnat accept; iifname "lo" accept; ct state invalid drop; reject with icmpx type admin-prohibited; }
      chain filter_OUTPUT { type filter hook output priority filter + 10; policy accept; ct state established,related accept; oifname "lo" accept; }
    }`,
} as const

const state: CaptureState = {
  ...nothing,
  unknownPort: 17000,
  destinations: [
    { address: '240.240.0.1', port: 80, virtual: '240.240.0.1', denied: false },
    { address: '10.96.0.1', port: 443, virtual: '240.240.0.1', denied: false },
  ],
}

const worker = `require('node:net').createServer((s) => s.on('error', () => {}).end('the mesh'))
  .listen(17000, () => console.log('open'))`

const dial = (address: string, port: number): string =>
  `const s = require('node:net').connect(${port}, '${address}')
  s.setTimeout(5000, () => s.destroy(new Error('nobody answers')))
  s.on('data', (d) => console.log(String(d))).on('error', (e) => console.log(e.message))`

for (const [whose, text] of Object.entries(tables)) {
  t.test(`capture works beside ${whose}, which stays as it is`, { skip }, async (t) => {
    const namespace = makeNamespace(t)
    // A way to ClusterIPs, as a host on a network has.
    namespace.run('ip', 'address', 'add', '10.0.0.9/32', 'dev', 'lo')
    namespace.run('ip', 'route', 'add', '10.96.0.0/12', 'dev', 'lo', 'src', '10.0.0.9')
    namespace.run('nft', text)
    const before = namespace.run('nft', '-s', 'list', 'ruleset')
    const child = spawn('nsenter', [...namespace.enter.slice(1), process.execPath, '-e', worker], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill())
    await once(child.stdout, 'data')
    const table = tableIn(namespace, { virtualRange6: null })
    await table.apply(state)
    for (const [address, port] of [
      ['240.240.0.1', 80],
      ['10.96.0.1', 443],
    ] as const) {
      const said = namespace.run(process.execPath, '-e', dial(address, port)).trim()
      t.equal(said, 'the mesh', `${address}:${port} is led to the mesh`)
    }
    await table.remove()
    t.equal(namespace.run('nft', '-s', 'list', 'ruleset'), before)
  })
}
