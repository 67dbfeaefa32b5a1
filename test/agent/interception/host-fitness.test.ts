import t from 'tap'
import { kernelCommands, type KernelCommands } from '#agent/interception/commands.ts'
import { hostProblem, kernelFeatures } from '#agent/interception/host-fitness.ts'
import type { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { makeNamespace, networkState } from '#test/support/namespace.ts'
import { lacks } from '#test/support/needs.ts'

const skip = lacks('netns', 'nft')

t.test('a host that cannot capture says why, and what to do', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const real = kernelCommands(namespace.enter)
  const problem = async (commands: KernelCommands): Promise<MeshError> => {
    const before = networkState(namespace)
    const found = await hostProblem(commands)
    t.equal(networkState(namespace), before, 'and nothing is touched')
    if (found === null) throw new Error('nothing was wrong')
    return found
  }
  t.equal(await hostProblem(real), null, 'one that can has no problem')

  const saying = (version: string): KernelCommands => ({
    ...real,
    ask: async (...words) => (words[0] === '--version' ? version : real.ask(...words)),
  })
  for (const version of ['nftables v0.9.8 (E.D.S.)\n', 'nftables v1.0.1 (Fearless Fosdick #3)\n'])
    t.match(await problem(saying(version)), {
      code: 'nft-too-old',
      message: version.trim(),
      hint: /install nftables 1\.0\.2 or newer/,
    })
  for (const version of ['nftables v1.0.2 (Lester Gooch)\n', 'nftables v2.0.0 (Later)\n'])
    t.equal(await hostProblem(saying(version)), null, version)

  const missing = kernelCommands(['/nonexistent/enter'])
  t.match(await problem(missing), { code: 'nft-missing', hint: /install nftables/ })

  const taken = { code: 'virtual-range-taken', hint: /remove the route or address/ }
  namespace.run('ip', 'route', 'add', 'local', '240.240.0.0/16', 'dev', 'lo')
  t.equal(await hostProblem(real), null, 'the route of an earlier run is ours')
  namespace.run('ip', 'route', 'del', 'local', '240.240.0.0/16', 'dev', 'lo')
  namespace.run('ip', 'route', 'add', '240.240.7.0/24', 'dev', 'lo')
  t.match(await problem(real), { ...taken, message: /240\.240\.7\.0\/24/ })
  namespace.run('ip', 'route', 'del', '240.240.7.0/24', 'dev', 'lo')
  namespace.run('ip', 'address', 'add', '240.240.1.1/32', 'dev', 'lo')
  t.match(await problem(real), { ...taken, message: /240\.240\.1\.1/ })
})

t.test('what a kernel cannot do is found out, each by itself', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const real = kernelCommands(namespace.enter)
  const before = networkState(namespace)
  const features = await kernelFeatures(real)
  t.equal(networkState(namespace), before, 'and nothing is touched')
  for (const [word, feature] of [
    ['masquerade', 'masquerades'],
    ['cgroupv2', 'tellsUnits'],
  ] as const) {
    const lacking = async (script: string): Promise<void> => {
      await real.check(script.replace(word, 'unheard-of'))
    }
    t.same(await kernelFeatures({ check: lacking }), { ...features, [feature]: false }, word)
  }
})

t.test('a kernel that could not be asked is taken to be able', async (t) => {
  const answering = (answer: string) =>
    kernelFeatures({
      check: async () => {
        throw new Error(`nft -c -f - ${answer}`)
      },
    })
  for (const passing of [
    'took longer than 20000 ms',
    'failed: ',
    'failed: netlink: Error: cache initialization failed: No buffer space available',
    'failed: /dev/stdin:4:1-9: Error: Could not process rule: Cannot allocate memory',
  ])
    t.same(await answering(passing), { tellsUnits: true, masquerades: true }, passing)
  for (const word of ['No such file or directory', 'Operation not supported']) {
    const lasting = `failed: /dev/stdin:4:1-9: Error: Could not process rule: ${word}`
    t.same(await answering(lasting), { tellsUnits: false, masquerades: false }, word)
  }
})
