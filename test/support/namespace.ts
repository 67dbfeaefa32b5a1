/** Owns network namespaces for tests: made on demand, entered by command, removed with the test. */

import { execFileSync } from 'node:child_process'
import { randomInt } from 'node:crypto'

/** The part of a test that a namespace uses. */
export interface NamespaceTest {
  teardown(run: () => void): unknown
}

/** One network of its own, with loopback up. */
export interface Namespace {
  readonly name: string
  /** What stands before a command that is to run there. */
  readonly enter: readonly string[]
  /** Runs a command there and answers what it printed; throws where it fails. */
  run(...command: readonly string[]): string
}

/** Makes a namespace that is gone after the test. */
export function makeNamespace(t: NamespaceTest, label = 'test'): Namespace {
  const name = `hostmesh-${process.pid}-${label}-${randomInt(1e6)}`
  const ip = (...words: readonly string[]): void => void execFileSync('ip', words)
  ip('netns', 'add', name)
  t.teardown(() => ip('netns', 'delete', name))
  ip('-n', name, 'link', 'set', 'lo', 'up')
  const enter = ['nsenter', `--net=/run/netns/${name}`]
  return {
    name,
    enter,
    run: (...command) =>
      execFileSync('nsenter', [...enter.slice(1), ...command], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
  }
}

/** Joins two namespaces by a cable; addresses with their length. `device` is the end in the first. */
export function joinNamespaces(
  a: Namespace,
  b: Namespace,
  ofA: string,
  ofB: string,
  device = 'eth0',
): void {
  a.run('ip', 'link', 'add', device, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b.name)
  a.run('ip', 'address', 'add', ofA, 'dev', device)
  b.run('ip', 'address', 'add', ofB, 'dev', 'eth0')
  a.run('ip', 'link', 'set', device, 'up')
  b.run('ip', 'link', 'set', 'eth0', 'up')
}

/** Everything capture might change in a namespace, for comparison before and after. */
export function networkState(namespace: Namespace): string {
  return [
    ['nft', 'list', 'ruleset'],
    ['ip', 'rule'],
    ['ip', '-6', 'rule'],
    ['ip', 'route', 'show', 'table', 'all'],
    ['ip', '-6', 'route', 'show', 'table', 'all'],
    ['sh', '-c', 'sysctl -a 2>/dev/null | grep "^net" | grep -v -e conntrack_count -e random'],
  ]
    .map((command) => `# ${command.join(' ')}\n${namespace.run(...command)}`)
    .join('\n')
}
