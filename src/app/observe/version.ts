// Put in by the bundler (build/bundle.ts); running from source there is none.
declare const RHIZOME_VERSION: string | undefined

export const VERSION: string = typeof RHIZOME_VERSION === 'string' ? RHIZOME_VERSION : '0.0.0-source'
