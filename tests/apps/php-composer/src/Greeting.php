<?php
namespace Hello;

final class Greeting
{
    public function text(): string
    {
        return 'Hello from a class, with mb_strlen ' . mb_strlen('héllo') . "\n";
    }
}
