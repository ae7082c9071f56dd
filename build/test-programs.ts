// Builds the programs that tests start as child processes (test/programs.ts) into a folder anywhere: `node build/test-programs.ts <folder>`.
import { globSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { BUILTIN_MODULES } from './builtin-modules.ts'
import { BUNDLE_OPTIONS } from './bundle-options.ts'

const SOURCES = [
  'test/demo/pod.ts',
  'test/lab/guest/*.ts',
  'test/lab/support/{held-connections,host-process,lb-traffic,short-connections,slow-path}.ts',
  'test/maelstrom/main.ts'
]

const [folder] = process.argv.slice(2)
if (folder === undefined) throw new Error('usage: node build/test-programs.ts <folder>')
const { absWorkingDir } = BUNDLE_OPTIONS
await build({
  ...BUNDLE_OPTIONS,
  plugins: [BUILTIN_MODULES],
  define: { RHIZOME_VERSION: JSON.stringify('tests') },
  entryPoints: globSync(SOURCES, { cwd: absWorkingDir }),
  outbase: 'test',
  outdir: folder,
  splitting: true
})
// Native addons are looked for beside the programs.
mkdirSync(folder, { recursive: true })
symlinkSync(join(absWorkingDir, 'node_modules'), join(folder, 'node_modules'))
writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }))
