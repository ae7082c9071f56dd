// Configures protobufjs. messages.ts imports this file before the generated code, because that code fixes its
// defaults when it is loaded: 64-bit fields are plain numbers, not Long objects.
import protobuf from 'protobufjs/minimal.js'

// The declared type does not allow null, but this is the switch that the library documents.
Object.assign(protobuf.util, { Long: null })
protobuf.configure()
