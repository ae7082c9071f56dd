// How our programs become one file each: for what is shipped, and for what benches measure.
import { fileURLToPath } from 'node:url'
import type { BuildOptions } from 'esbuild'

export const BUNDLE_OPTIONS = {
  absWorkingDir: fileURLToPath(new URL('..', import.meta.url)),
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  // Native addons stay in node_modules, next to their prebuilt binaries.
  external: ['classic-level'],
  // Some dependencies are CommonJS and call require, which an ES module does not have.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);"
  },
  minifySyntax: true,
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'none',
  logLevel: 'warning'
} satisfies BuildOptions
