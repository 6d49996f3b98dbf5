//! The fakes of language models as a program, for clients that are not ours: prints one line of JSON with their addresses
//! and keys, and runs until its standard input ends. The first argument is what they all answer.

use plumbline_testkit::gemini::{self, FakeGemini};
use plumbline_testkit::openai::{self, FakeOpenAi};
use serde_json::json;

fn main() {
    let text = std::env::args().nth(1).expect("what to answer");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads");
    runtime.block_on(async {
        let (of_gemini, of_openai) = (text.clone(), text);
        let gemini = FakeGemini::answering(move |_| gemini::answer(&of_gemini)).await;
        let openai = FakeOpenAi::answering(move |_| openai::completion(&of_openai, "stop")).await;
        let told = json!({
            "gemini": {"url": gemini.url(), "key": gemini::API_KEY},
            "openai": {"url": openai.url(), "key": openai::API_KEY, "model": openai::MODEL},
        });
        #[expect(clippy::print_stdout, reason = "who started it reads where the fakes are")]
        {
            println!("{told}");
        }
        let ended =
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        let _ended = ended.await.expect("no panic");
        // The fakes end when they are dropped.
        drop((gemini, openai));
    });
}
