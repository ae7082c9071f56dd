// app → io → core. A forbidden import fails here, with the reason.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { filesBelow, importsOf } from './source.ts'

// Pure packages that core may use; each computes and nothing else.
const CORE_PACKAGES = new Set(['#mesh-proto', 'protobufjs', 'ipaddr.js', 'multiformats', 'uint8arrays'])
// What is not a function of its arguments.
const IMPURE =
  /\b(Date\.now|new Date\(\)|Math\.random|performance\.now|process\.|Buffer\.|setTimeout|setInterval|setImmediate|console\.)/

describe('import directions', () => {
  const files = filesBelow('src')
  const imports = files.flatMap(importsOf)

  it('finds the tree', () => {
    assert.ok(files.length > 20, `only ${files.length} files`)
    assert.ok(imports.length > 50)
  })

  it('core imports core and pure packages only', () => {
    check(
      'src/core/',
      (target) => target.startsWith('src/core/') || CORE_PACKAGES.has(packageOf(target)),
      'core has no edge: the simulator runs it'
    )
  })

  it('core reads no clock, no randomness and no global of Node', () => {
    for (const file of files.filter((file) => file.startsWith('src/core/'))) {
      const code = readFileSync(file, 'utf8')
        .replace(/\/\*[\s\S]*?\*\//g, '')
        .replace(/(^|\s)\/\/.*$/gm, '')
      assert.doesNotMatch(code, IMPURE, file)
    }
  })

  it('an edge imports core, its own folder and repeated work, never another edge, app or cli', () => {
    for (const edge of readdirSync('src/io')) {
      const own = `src/io/${edge}/`
      check(
        own,
        (target) =>
          !target.startsWith('src/') ||
          target.startsWith('src/core/') ||
          target.startsWith(own) ||
          // Nothing outside but the clock: each edge would otherwise have a loop of its own.
          target === 'src/io/timing/loop.ts' ||
          // Text in, values out. Two readers of kubectl's YAML would read one file differently.
          target === 'src/io/manifests/parse-yaml.ts',
        'edges meet in app only'
      )
    }
  })

  it('imports zod as a module, because its name z has all the languages of zod with it', () => {
    const named = imports.filter(
      ({ target, names, typeOnly }) => target === 'zod' && names?.includes('z') === true && !typeOnly
    )
    assert.deepEqual(named, [])
  })

  it('app never imports cli', () => {
    check('src/app/', (target) => !target.startsWith('src/cli/'), 'the agent does not know its clients')
  })

  it('the admin API imports values of core and zod only', () => {
    check(
      'src/api/',
      (target) => target.startsWith('src/api/') || target.startsWith('src/core/') || target === 'zod',
      'both programs import it'
    )
  })

  it('cli takes only types of src/api/requests.ts', () => {
    const bad = imports.filter(
      ({ file, target, typeOnly }) =>
        target === 'src/api/requests.ts' &&
        !typeOnly &&
        (file.startsWith('src/cli/') || file.startsWith('src/api/'))
    )
    assert.deepEqual(bad, [], 'it loads zod, which takes 100 ms at each completion in a shell')
  })

  it('cli takes the admin API and pure helpers, and nothing else of the agent', () => {
    check(
      'src/cli/',
      (target, file) =>
        !target.startsWith('src/') ||
        target.startsWith('src/cli/') ||
        target.startsWith('src/core/') ||
        target.startsWith('src/api/') ||
        // One client of the Kubernetes API: two would read a kubeconfig, a proxy or an answer differently.
        (file === 'src/cli/kube/kube.ts' && target === 'src/io/kube/client.ts') ||
        // `install` refuses what the agents would refuse at their start: a wrong setting, a damaged token.
        (file === 'src/cli/kube/install-checks.ts' &&
          ['src/app/settings/settings.ts', 'src/io/crypto/crypto.ts'].includes(target)),
      'meshctl is a client like any other'
    )
  })

  function check(folder: string, allowed: (target: string, file: string) => boolean, why: string): void {
    const bad = imports.filter((i) => i.file.startsWith(folder) && !allowed(i.target, i.file))
    assert.deepEqual(
      bad.map((i) => `${i.file} imports ${i.target}`),
      [],
      why
    )
  }
})

function packageOf(target: string): string {
  const parts = target.split('/')
  return target.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? '')
}
