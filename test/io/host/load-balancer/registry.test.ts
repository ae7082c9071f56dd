import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { HostError } from '../../../../src/io/host/errors.ts'
import { createLoadBalancer } from '../../../../src/io/host/load-balancer/create.ts'
import { detectLoadBalancer } from '../../../../src/io/host/load-balancer/detect.ts'
import { autoHelp, LOAD_BALANCERS } from '../../../../src/io/host/load-balancer/registry.ts'
import { hostNames, type Run } from '../../../../src/io/host/ports.ts'
import { packageOf } from '../../../../src/io/host/tools/tools.ts'

/** Tools that all work but these, and the commands that were run. */
function tools(...broken: readonly string[]): { readonly run: Run; readonly commands: string[] } {
  const commands: string[] = []
  const run: Run = async (tool, args) => {
    commands.push([tool, ...args].join(' '))
    if (broken.includes(tool)) throw new HostError({ code: 'TOOL_FAILED', tool, message: `${tool} failed` })
    return { stdout: '', stderr: '', exitCode: 0 }
  }
  return { run, commands }
}

describe('the table of load balancers', () => {
  it('has each name once, as lower-case words', () => {
    const names = LOAD_BALANCERS.map(({ name }) => name)
    assert.equal(new Set(names).size, names.length)
    for (const name of names) assert.match(name, /^[a-z]+(-[a-z]+)*$/)
  })

  it('writes the help of `auto` in order of preference', () => {
    assert.equal(autoHelp(), 'auto = nftables where the kernel has it, else IPVS')
  })

  it('names only tools that the image installs', () => {
    const image = readFileSync('deploy/image/Dockerfile', 'utf8')
    for (const tool of LOAD_BALANCERS.flatMap(({ tools: needed }): readonly string[] => needed))
      assert.match(image, new RegExp(`\\s${packageOf(tool)}\\s`), tool)
  })

  it('lets `auto` take the first kind that the kernel can do', async () => {
    assert.equal(await detectLoadBalancer(tools().run), 'nftables')
    assert.equal(await detectLoadBalancer(tools('nft').run), 'ipvs')
  })

  it('names what the kernel lacks where no kind works', async () => {
    await assert.rejects(detectLoadBalancer(tools('nft', 'ipvsadm').run), {
      code: 'NO_LOAD_BALANCER',
      message: 'this kernel has neither IPVS nor nftables with address translation',
      fix: 'load the kernel modules ip_vs or nft_chain_nat'
    })
  })

  it('removes in cleanup what each other kind may have left', async () => {
    const names = hostNames('rhizome0', () => [])
    const { signal } = new AbortController()
    for (const [kind, broken, expected] of [
      ['ipvs', [], ['ipvsadm', 'nft']],
      ['nftables', [], ['nft', 'cat', 'ipvsadm', 'ipvsadm']],
      // A kernel without IPVS: ipvsadm would load its module.
      ['nftables', ['cat'], ['nft', 'cat']]
    ] as const) {
      const { run, commands } = tools(...broken)
      await createLoadBalancer(kind, { run, names, warn: assert.fail }).cleanup(signal)
      assert.deepEqual(
        commands.map((command) => command.split(' ')[0]).filter((tool) => tool !== 'conntrack'),
        expected,
        kind
      )
    }
  })
})
